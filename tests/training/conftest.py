from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.paths import ROOT
from training import data, recipe
from training.checkpoint import CHECKPOINT
from training.recipe import Recipe

from . import subset

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are no faster with more threads, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _subset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere in these tests, "mnist" is the committed subset."""
    monkeypatch.setitem(data.DATASETS, "mnist", subset.SUBSET)


@pytest.fixture(scope="session")
def small() -> Recipe:
    """mnist-mlp, made small."""
    return recipe.read("mnist-mlp").model_copy(update=subset.SMALL)


@pytest.fixture
def images() -> Tensor:
    """uint8 [600, 28, 28]: real digits."""
    return data.load("mnist", "train", subset.DIRECTORY)[0]


@pytest.fixture(scope="session")
def program() -> Program:
    """Runs the training program on the subset in a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "tests.training.subset", *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@dataclass(frozen=True)
class Run:
    """The output and the files of one call of the program."""

    output: str
    runs: Path
    models: Path

    @property
    def folder(self) -> Path:
        return self.runs / "mnist-mlp"

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def bundle(self) -> Path:
        return self.models / "mnist-mlp" / "1"


@pytest.fixture(scope="session")
def finished(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of the program: trained, evaluated, exported. Once for all processes of pytest-xdist."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # what is above it belongs to this call of pytest
    folder = shared / "finished"
    output = folder / "output"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            run = program(
                *subset.SMALL_ARGUMENTS,
                f"--data-dir={subset.DIRECTORY}",
                f"--runs-dir={folder / 'runs'}",
                f"--models-dir={folder / 'models'}",
            )
            assert run.returncode == 0, run.stderr
            output.write_text(run.stdout)
    return Run(output.read_text(), folder / "runs", folder / "models")
