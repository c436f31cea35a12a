"""The training program on the committed subset of MNIST, in a process of its own.

    python -m tests.training.subset --data-dir tests/data/mnist ...

Tests that kill or interrupt it add VAE_TEST_KILL_AT=save:N or write:N: SIGKILL right after the N-th epoch's
checkpoint, or in the middle of writing it.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from harness.paths import DATA, ROOT
from training import checkpoint, data
from training.__main__ import main
from training.recipe import Recipe

DIRECTORY: Final = DATA / "mnist"
FULL: Final = Path(os.environ.get("VAE_MNIST_DIR", ROOT.parent / "shared" / "data" / "mnist"))  # where it is
SUBSET: Final = dataclasses.replace(
    data.DATASETS["mnist"],
    sha256={
        "train-images-idx3-ubyte": "ed3cf154352e4d7fa29892a8ded924b3a481be7e129660c09aafc47b637e2803",
        "train-labels-idx1-ubyte": "c2ad746c48f5219000739348f423b5d097de30034785e2ebc431a9728567c7eb",
        "t10k-images-idx3-ubyte": "cefe86a05637f831a20aef251bd9db19004a2c986ec848d345c40ffd09264afc",
        "t10k-labels-idx1-ubyte": "181dda88fbf8032cf747bf0766ad9d035b6bb747997214d834eb8d2f33a72210",
    },
)
# Changes of the shipped recipe that make a run on the subset take seconds.
SMALL: Final = {
    "epochs": 4,
    "batch_size": 64,
    "validation_size": 100,
    "hidden": 48,
    "latent_dim": 8,
    "checkpoint_every": 1,
    "prior_components": 2,
}
SMALL_ARGUMENTS: Final = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def _kill_at(moment: str, epoch: int) -> None:
    save = checkpoint.save

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def save_until(path: Path, recipe: Recipe, state: checkpoint.State) -> None:
        if state.epoch == epoch and moment == "write":
            setattr(os, "fsync", die)  # noqa: B010
        save(path, recipe, state)
        if state.epoch == epoch:
            die()

    checkpoint.save = save_until


if __name__ == "__main__":
    data.DATASETS["mnist"] = SUBSET
    if planned := os.environ.get("VAE_TEST_KILL_AT"):
        moment, _, epoch = planned.partition(":")
        _kill_at(moment, int(epoch))
    sys.exit(main())
