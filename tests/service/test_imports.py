from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT

FOREIGN = {"torch", "onnx", "training", "tensorboard", "matplotlib"}


def test_importing_the_service_leaves_training_and_its_tools_out() -> None:
    code = "import sys, service.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    imported = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "onnxruntime" in imported
    assert not FOREIGN & set(imported)


@pytest.mark.parametrize("module", ["service.__main__", "training.onnx_graph"])
def test_onnxruntime_is_told_to_send_nothing_to_its_makers(tmp_path: Path, module: str) -> None:
    """Otherwise it stores an id of the machine in the home folder when it is imported."""
    unset = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    code = f"import {module}, sys; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
