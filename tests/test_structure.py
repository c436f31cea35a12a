"""Files stay small enough to hold in the head."""

from __future__ import annotations

import subprocess

from harness.paths import ROOT

MOST_LINES = 400


def test_no_source_file_is_longer_than_400_lines() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in listed.split()}
    assert lines
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
