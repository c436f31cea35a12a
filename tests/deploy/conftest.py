"""What the files that an operator deploys with say, and what the project says itself."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

import pytest

from harness.paths import ROOT


@dataclass(frozen=True)
class Image:
    """What the Dockerfile says of the image, and the version that is its tag."""

    port: int
    uid: int
    models: str
    version: str


@pytest.fixture(scope="session")
def image() -> Image:
    text = (ROOT / "Dockerfile").read_text()

    def said(pattern: str) -> str:
        (found,) = set(re.findall(pattern, text, re.MULTILINE))
        return str(found)

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return Image(int(said(r"^EXPOSE (\d+)")), int(said(r"--uid (\d+)")), said(r"VAE_MODELS_DIR=(\S+)"), version)
