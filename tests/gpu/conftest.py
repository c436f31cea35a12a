"""Tests that need an NVIDIA GPU. Without one they are skipped, or fail where REQUIRE_GPU is 1.

Run them in one process and alone on the GPU, as `make test-gpu` does. They fill its memory, and other processes that
fill it make them fail.
"""

from __future__ import annotations

import os

import pytest
import torch

NO_GPU = "PyTorch finds no GPU that has CUDA."


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    """A GPU for every test in this folder."""
    if not torch.cuda.is_available():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(NO_GPU)
        pytest.skip(NO_GPU)
