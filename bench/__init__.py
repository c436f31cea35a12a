"""Benchmarks: each prints Markdown with its machine and versions, and ends by itself. `make bench` runs them all."""
