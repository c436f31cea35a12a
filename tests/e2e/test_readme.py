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
from tests.readme import curl_lines


def run_lines(folder: Path, port: int) -> list[str]:
    """Run the README's curl lines in `folder`, beside which the checkout's files lie; give what each printed."""
    (folder / "tests").symlink_to(ROOT / "tests")
    return [
        subprocess.run(
            ["bash", "-c", line.replace("localhost:8000", f"localhost:{port}")],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in curl_lines()
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readmes_curl_lines_work_as_printed(serve: Callable[..., Server], tmp_path: Path) -> None:
    lines = curl_lines()
    routes = [line.split("localhost:8000")[1].split()[0] for line in lines]
    assert routes == ["/encode", "/reconstruct", "/sample"]
    printed = run_lines(tmp_path, serve().port)
    assert np.shape(json.loads(printed[0])["mu"]) == (1, 20)
    assert decoded((tmp_path / "reconstruction.png").read_bytes()).shape == (28, 28)
    assert decoded((tmp_path / "samples.png").read_bytes()).shape == (8 * 28, 8 * 28)
