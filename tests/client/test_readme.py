"""client/README.md: every block of it is run, and its tables are those of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.digits import decoded, digits, encoded
from harness.paths import ROOT
from harness.servers import Server
from tests.documents.runs import prepare
from tests.readme import blocks, python_blocks
from vae_client import Client
from vae_client.cli.arguments import STATUSES

DOCUMENT = ROOT / "client" / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the document names, and `vae`."""
    prepare(tmp_path)
    for name, some in (("photos", digits()[:5]), ("scans", digits()[5:7])):
        (tmp_path / name).mkdir()
        for index, digit in enumerate(some):
            (tmp_path / name / f"{index}.png").write_bytes(encoded(digit))
    return tmp_path


def run(command: list[str], folder: Path, server: Server) -> str:
    """Run a command in the folder. Gives what it prints."""
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "client"), "VAE_URL": server.url,
    }  # fmt: skip
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_each_block_of_python_works_as_printed(folder: Path, server: Server) -> None:
    first, errors, asynchronous, pictures = (
        run([sys.executable, "-W", "error", "-c", block], folder, server) for block in python_blocks(DOCUMENT)
    )
    (printed,) = re.findall(r"```text\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert first == printed
    assert errors.splitlines()[0].startswith("1 Not a picture")
    assert errors.splitlines()[1].startswith("1 {1: 'Not a picture")
    assert asynchronous == "(10, 28, 28)\n"
    assert pictures == ""
    assert decoded((folder / "traversal.png").read_bytes()).shape == (5 * 28, 7 * 28)


def test_the_lines_for_a_shell_work_as_printed(folder: Path, server: Server) -> None:
    install, commands = blocks(DOCUMENT)
    assert [line.split()[:2] for line in install.splitlines()] == [["pip", "install"]] * 2
    printed = run(["bash", "-euo", "pipefail", "-c", commands], folder, server).splitlines()
    assert '"file": "digit.png"' in printed[0]
    assert printed[-1] == "Models loaded, verified, warm and working."
    assert len((folder / "scores.jsonl").read_text().splitlines()) == 5
    assert len(list((folder / "reconstructions").iterdir())) == 5
    assert decoded((folder / "sevens.png").read_bytes()).shape == (8 * 28, 8 * 28)
    assert decoded((folder / "decoded.png").read_bytes()).shape == (28, 2 * 28)
    assert decoded((folder / "way.png").read_bytes()).shape == (28, 12 * 28)
    assert decoded((folder / "traversal.png").read_bytes()).shape == (2 * 28, 7 * 28)
    assert np.load(folder / "latents.npy").shape == (2, 20)


def test_its_tables_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()
    statuses = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert statuses == [(str(status), meaning) for status, meaning in STATUSES.items()]
    methods = set(re.findall(r"`(\w+)\([^`]*\)`", text[text.index("| method |") : text.index("Arrays are NumPy's")]))
    assert methods == {name for name, each in vars(Client).items() if callable(each) and name[0] != "_"} - {"close"}
