"""Whether a commit can be released, and what goes out: `make release-check`. docs/release.md says how to release.

documents.py  the version and the changelog
licences.py   what the packages' metadata say of their licences
bill.py       the software bill of materials
checks.py     the checks, in order
"""
