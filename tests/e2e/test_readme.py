from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.digits import decoded
from harness.paths import ROOT
from harness.servers import Server
from tests.readme import commands, curl_lines

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def run(line: str, folder: Path, port: int = 8000) -> str:
    """Run a command of the README in a folder, for a service on another port. Gives what it prints."""
    command = ["bash", "-c", line.replace("localhost:8000", f"localhost:{port}")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_curl_lines_work_as_printed(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # the lines name files of the checkout
    lines = curl_lines()
    routes = [line.split("localhost:8000")[1].split()[0] for line in lines]
    assert routes == ["/encode", "/reconstruct", "/sample", "/models"]
    port = serve().port
    printed = [run(line, tmp_path, port) for line in lines]
    assert np.shape(json.loads(printed[0])["mu"]) == (1, 20)
    assert decoded((tmp_path / "reconstruction.png").read_bytes()).shape == (28, 28)
    assert decoded((tmp_path / "samples.png").read_bytes()).shape == (8 * 28, 8 * 28)
    assert json.loads(printed[3])["default"] == "mnist-mlp@2"


def test_the_lines_about_keys_work_as_printed(serve: Callable[..., Server], tmp_path: Path) -> None:
    (line,) = commands("printf")
    run(line, tmp_path)
    port = serve(api_keys_file=tmp_path / "keys").port
    without, with_key = run("curl localhost:8000/models", tmp_path, port), run(curl_lines()[-1], tmp_path, port)
    assert json.loads(without)["status"] == 401
    assert json.loads(with_key)["default"] == "mnist-mlp@2"
