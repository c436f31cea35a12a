"""The blocks of the documents, so that tests run what readers run.

A line `<!-- not run: why -->` directly above a block says why no test runs it. Forges do not show it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FENCED: Final = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the number of its first line, and why it is not run, or ""."""

    language: str
    text: str
    line: int
    reason: str


def fenced(document: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    whole = document.read_text()
    return [
        Block(found["language"], found["text"], whole.count("\n", 0, found.start("text")) + 1, found["reason"] or "")
        for found in _FENCED.finditer(whole)
    ]


def commands(document: Path, program: str) -> list[str]:
    """Every command of a document that runs a program, as printed, continuation lines and all."""
    pattern = re.compile(rf"^{program} (?:.*\\\n)*.*$", re.MULTILINE)
    return [command for block in blocks(document) for command in pattern.findall(block)]


def blocks(document: Path) -> list[str]:
    """Every block of commands in a document."""
    return [block.text for block in fenced(document) if block.language == "sh"]


def python_blocks(document: Path) -> list[str]:
    """Every block of Python in a document."""
    return [block.text for block in fenced(document) if block.language == "python"]
