"""The version of the project, and what its documents say of it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Section:
    """What the changelog says of one version: its `date` as in the heading, and the text below."""

    date: str
    text: str


def version(root: Path) -> str:
    """The version of the project. It is set in pyproject.toml alone."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def repeated_versions(root: Path) -> Iterator[tuple[str, str]]:
    """Each place that has to repeat the version, since nothing can read it there, with the version that it says."""
    client = Path("client", "vae_client", "__init__.py")
    for said in re.findall(r'^__version__ = "(.*)"$', (root / client).read_text(), re.MULTILINE):
        yield str(client), said
    document = Path("docs", "openapi.json")
    yield str(document), json.loads((root / document).read_text())["info"]["version"]
    for file in sorted((root / "deploy" / "kubernetes").rglob("*.yaml")):
        for said in re.findall(r"image: vae-service:([^\s-]+)", file.read_text()):
            yield str(file.relative_to(root)), said


def section(changelog: str, version: str) -> Section | None:
    """The changelog's section of a version: the lines below its heading `## VERSION - DATE`. None if there is none."""
    found = re.search(rf"^## {re.escape(version)} - (.+)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    return Section(found[1].strip(), found[2].strip()) if found else None
