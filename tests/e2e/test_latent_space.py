"""docs/latent-space.md: its commands make its pictures and its figures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.digits import decoded
from harness.paths import ROOT
from harness.servers import Server
from tests.readme import blocks

PICTURES = ROOT / "docs" / "latent-space"
DOCUMENT = PICTURES.with_suffix(".md")

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def printed(serve: Callable[..., Server], tmp_path: Path) -> str:
    """What the commands print, when all have been run in order in a folder of the test's own."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "docs" / "latent-space").mkdir(parents=True)
    commands = "\n".join(blocks(DOCUMENT))
    commands = commands.replace("localhost:8000", f"localhost:{serve().port}").replace(
        ".venv/bin/python", sys.executable
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_commands_make_the_pictures_and_the_figures_of_the_document(printed: str, tmp_path: Path) -> None:
    """On another processor sums are taken in another order, and a grey level may be another."""
    made = sorted(path.name for path in (tmp_path / "docs" / "latent-space").iterdir())
    assert made == sorted(path.name for path in PICTURES.iterdir())
    for name in made:
        here = decoded((tmp_path / "docs" / "latent-space" / name).read_bytes()).astype(float)
        there = decoded((PICTURES / name).read_bytes()).astype(float)
        assert here.shape == there.shape
        assert np.abs(here - there).mean() < 1, name
    rows = DOCUMENT.read_text().split("<!-- repair -->\n")[1].split("<!-- /repair -->")[0].splitlines()
    found = printed.splitlines()
    assert len(found) == len(rows) == 2 + 5
    for row, other in zip(rows, found, strict=True):
        assert row.split("|")[1] == other.split("|")[1]
        np.testing.assert_allclose(numbers(row), numbers(other), atol=1)


def numbers(row: str) -> list[float]:
    """The shares and the errors in a row of the table, in percent."""
    return [float(number) * (1 if percent else 100) for number, percent in re.findall(r"(\d+(?:\.\d+)?)(%?)", row)]


def test_every_picture_is_shown() -> None:
    shown = re.findall(r'<img src="latent-space/([^"]+)"', DOCUMENT.read_text())
    assert sorted(shown) == sorted(path.name for path in PICTURES.iterdir())
