"""The README's own commands, so that tests run what readers run."""

from __future__ import annotations

import re
from pathlib import Path

from harness.paths import ROOT


def curl_lines() -> list[str]:
    """Every curl command of the README, as printed, continuation lines and all."""
    return commands("curl")


def commands(program: str) -> list[str]:
    """Every command of the README that runs a program, as printed."""
    found = blocks(ROOT / "README.md")
    return [command for block in found for command in re.findall(rf"^{program} (?:.*\\\n)*.*$", block, re.MULTILINE)]


def blocks(document: Path) -> list[str]:
    """Every block of commands in a document."""
    return re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)


def python_blocks(document: Path) -> list[str]:
    """Every block of Python in a document."""
    return re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
