from __future__ import annotations

import pytest

from harness.paths import ROOT
from release import documents

CHANGELOG = """# Changelog

## 0.2.0 - unreleased

- More.

## 0.1.0 - 2026-11-25

- First.
- Second.
"""


def test_the_version_is_in_pyproject_and_what_repeats_it_says_the_same() -> None:
    """The client's wheel and the manifests cannot read it there."""
    version = documents.version(ROOT)
    repeated = list(documents.repeated_versions(ROOT))
    assert {place.split("/")[0] for place, _ in repeated} == {"client", "deploy", "docs"}
    assert [place for place, said in repeated if said != version] == []


def test_the_changelog_has_a_section_for_it() -> None:
    section = documents.section((ROOT / "CHANGELOG.md").read_text(), documents.version(ROOT))
    assert section is not None
    assert section.text


@pytest.mark.parametrize(
    ("version", "section"),
    [
        ("0.2.0", documents.Section("unreleased", "- More.")),
        ("0.1.0", documents.Section("2026-11-25", "- First.\n- Second.")),
        ("0.1", None),
        ("0.3.0", None),
    ],
)
def test_a_section_is_what_is_between_two_headings(version: str, section: documents.Section | None) -> None:
    assert documents.section(CHANGELOG, version) == section
