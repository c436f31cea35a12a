"""docs/containers.md lists what can be set in the compose file."""

from __future__ import annotations

import re

from harness.paths import ROOT


def test_every_variable_is_listed_with_its_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", (ROOT / "docs" / "containers.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(set(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", text)))
