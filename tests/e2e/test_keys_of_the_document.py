"""The lines about keys in docs/operate.md, on a server that has them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import Server
from tests.readme import commands

DOCUMENT = ROOT / "docs" / "operate.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_lines_about_keys_work_as_printed(serve: Callable[..., Server], tmp_path: Path) -> None:
    def run(line: str) -> str:
        return subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    (write,), (ask,) = commands(DOCUMENT, "printf"), commands(DOCUMENT, "curl")
    run(write)
    ask = ask.replace("localhost:8000", f"localhost:{serve(api_keys_file=tmp_path / 'keys').port}")
    without, with_key = run(ask.split(" -H ")[0]), run(ask)
    assert json.loads(without)["status"] == 401
    assert json.loads(with_key)["default"] == "mnist-mlp@2"
