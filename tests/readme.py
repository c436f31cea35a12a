"""The README's own commands, so that tests run what readers run."""

from __future__ import annotations

import re

from harness.paths import ROOT


def curl_lines() -> list[str]:
    """Every curl command of the README, as printed, continuation lines and all."""
    return commands("curl")


def commands(program: str) -> list[str]:
    """Every command of the README that runs a program, as printed."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [command for block in blocks for command in re.findall(rf"^{program} (?:.*\\\n)*.*$", block, re.MULTILINE)]
