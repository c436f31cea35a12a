"""client/tour.ipynb runs by its command, and what is committed of it is what it gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from harness.paths import ROOT
from vae_client import Client

NOTEBOOK = ROOT / "client" / "tour.ipynb"


def outputs(notebook: Any) -> list[tuple[str, list[list[str]]]]:
    """Each cell's code, and the media types of what it gave."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(cell.source, [sorted(result.get("data", {"text": ""})) for result in cell.outputs]) for cell in cells]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook, run as `make notebook` does."""
    output = tmp_path_factory.mktemp("notebook") / "tour.ipynb"
    command = [sys.executable, "-m", "harness.notebook", str(NOTEBOOK), str(output)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]


def test_every_cell_runs_and_the_committed_pictures_are_there(executed: Any) -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert outputs(executed) == outputs(committed)
    pictures = [kinds for _, results in outputs(executed) for kinds in results if "image/png" in kinds]
    assert len(pictures) > 10


def test_it_names_no_path_of_the_machine_and_is_small(executed: Any) -> None:
    for text in (NOTEBOOK.read_text(), nbformat.writes(executed)):  # type: ignore[no-untyped-call]
        assert str(ROOT) not in text
        assert str(Path.home()) not in text
        assert len(text) < 500_000


def test_it_calls_every_method_of_the_client() -> None:
    text = NOTEBOOK.read_text()
    called = set(re.findall(r"\.(\w+)\(", text))
    assert called >= {name for name, each in vars(Client).items() if callable(each) and name[0] != "_"} - {"close"}
