from __future__ import annotations

import subprocess
import sys

from harness.paths import ROOT

FOREIGN = {"torch", "onnx", "training", "tensorboard", "matplotlib"}


def test_importing_the_service_leaves_training_and_its_tools_out() -> None:
    code = "import sys, service.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    imported = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "onnxruntime" in imported
    assert not FOREIGN & set(imported)
