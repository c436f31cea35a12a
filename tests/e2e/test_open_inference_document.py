"""The commands and the program of docs/open-inference.md work as printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import Server
from tests.readme import commands, python_blocks

DOCUMENT = ROOT / "docs" / "open-inference.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_lines(server: Server, folder: Path) -> None:
    printed = list[str]()
    for line in commands(DOCUMENT, "curl"):
        command = ["bash", "-c", line.replace("localhost:8000", f"localhost:{server.port}")]
        printed.append(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    assert (folder / "latents.bin").read_bytes().startswith(b'{"model_name":"mnist-mlp.encode"')
    sampled, encoded, metadata = (json.loads(text) for text in printed[1:])
    assert (sampled["id"], sampled["outputs"][0]["shape"]) == ("a", [1, 20])
    assert [output["name"] for output in encoded["outputs"]] == ["mu", "logvar"]
    assert metadata["inputs"][0]["name"] == "image"


def test_the_program(server: Server, folder: Path) -> None:
    (program,) = python_blocks(DOCUMENT)
    program = program.replace("localhost:8000", f"127.0.0.1:{server.port}")
    program += "print(mu.shape, digit.shape, sevens.shape)\nclient.close()\n"
    ended = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("(2, 20) (1, 28, 28) (16, 28, 28)\n", 0), ended.stderr
