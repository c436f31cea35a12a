"""The commands and the script of docs/streams.md, run as they are printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import Server
from tests.readme import blocks, python_blocks

DOCUMENT = ROOT / "docs" / "streams.md"


def test_they_work_as_printed(server: Server, folder: Path) -> None:
    port = server.port

    def run(*command: str) -> str:
        command = tuple(part.replace("localhost:8000", f"localhost:{port}") for part in command)
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

    (script,) = python_blocks(DOCUMENT)
    printed = run(sys.executable, "-c", script)
    assert [line.split()[0] for line in printed.splitlines()] == ["digit.png", "two.png"]
    assert "[" in printed
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    stream, form, packed = blocks(DOCUMENT)
    run("bash", "-ec", stream)
    found = [json.loads(line) for line in (folder / "latents.ndjson").read_text().splitlines()]
    assert [(line["line"], line["id"], len(line["mu"])) for line in found] == [
        (1, "tests/data/digit.png", 20),
        (2, "tests/data/two.png", 20),
    ]
    assert run("bash", "-ec", packed) == (folder / "latents.ndjson").read_text()
    found = [json.loads(line) for line in run("bash", "-c", form).splitlines()]
    assert [(line["id"], "image" in line) for line in found] == [("digit.png", True), ("two.png", True)]
