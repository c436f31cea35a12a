"""How fast training is on a GPU, and what makes it fast.

    python -m bench.training_gpu --data-dir DIR [--device cuda] [--seconds 120]

For each recipe, seconds of an epoch (the training loop `training.train.epoch`, without validation), each way in turn:

- steps launched from Python, with AdamW as it comes for lists of tensors, and with the fused one;
- steps as CUDA graphs, which is what training does on a GPU, in float32, with TF32 products and with bfloat16 products;
- the last of these with the network compiled by torch.compile;
- the CPU of the same machine, from a few steps.

Then `mnist-mlp` is trained in full, with validation, log and checkpoints, and its total on the test images is printed
beside that of the shipped bundle. A part that fails prints its traceback, and the others go on. No part is begun
when `--seconds` have passed.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal
from unittest import mock

import torch
from torch import Tensor

from bench.machine import machine
from harness.paths import MODELS
from training import captured, checkpoint, data, recipe, train
from training.data import Sets
from training.recipe import Recipe
from training.score import score

RECIPES: Final = ("mnist-mlp", "mnist-resmlp-base", "mnist-resmlp", "mnist-sharp")
BUNDLE: Final = "mnist-mlp/2"
CPU_STEPS: Final = 20
COMPILE_SECONDS: Final = 45  # torch.compile may take so long
WANTED: Final = {"mnist-mlp": 0.1, "mnist-resmlp-base": 0.2}  # seconds of an epoch, at most


@dataclass(frozen=True)
class Way:
    """One way through an epoch. `epochs` are measured, after as many as a way needs to settle."""

    name: str
    device: Literal["cpu", "cuda"] = "cuda"
    graphs: bool = True
    fused: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    tf32: bool = False
    compiled: bool = False
    warm_up: int = captured.WARM_UP + 1  # each epoch has one batch of the smaller size
    epochs: int = 5


WAYS: Final = (
    Way("launched from Python, AdamW for lists", graphs=False, fused=False, warm_up=1, epochs=2),
    Way("launched from Python", graphs=False, warm_up=1, epochs=2),
    Way("CUDA graphs"),
    Way("CUDA graphs, TF32", tf32=True),
    Way("CUDA graphs, bfloat16", precision="bfloat16"),
    Way("CPU", device="cpu", warm_up=1, epochs=1),
)
COMPILED: Final = Way("CUDA graphs, bfloat16, torch.compile", precision="bfloat16", compiled=True)


def seconds_of_epoch(wanted: Recipe, images: Tensor, way: Way, device: str) -> float:
    """The median of an epoch of uint8 images [N, *image_shape]; on the CPU, that of a few steps, scaled."""
    part = images
    if way.device == "cpu":
        part = images[: CPU_STEPS * wanted.batch_size]
    elif way.compiled:
        part = images[: len(images) // wanted.batch_size * wanted.batch_size]  # one shape, which is compiled once
    where = torch.device("cpu" if way.device == "cpu" else device)
    wanted = wanted.model_copy(update={"precision": way.precision if where.type == "cuda" else wanted.precision})
    state = checkpoint.start(wanted, tuple(images.shape[1:]), where)
    if not way.fused:
        for options in state.optimiser.param_groups:
            options.update(fused=False, foreach=True)
    if way.compiled:
        for name in ("encode", "activation"):
            setattr(state.model, name, torch.compile(getattr(state.model, name)))
    part = part.to(where)
    found = []
    with _settings(way), _limit(COMPILE_SECONDS):
        step = train.Step(wanted, state, part)
        for _ in range(way.warm_up + way.epochs):
            began = time.perf_counter()
            train.epoch(wanted, state, part, lambda _: None, step=step)  # waits for the GPU at its end
            found.append(time.perf_counter() - began)
            state.epoch += 1
    return statistics.median(found[way.warm_up :]) * len(images) / len(part)


@contextmanager
def _settings(way: Way) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if way.tf32 else "highest")
    try:
        with mock.patch.object(captured, "WARM_UP", captured.WARM_UP if way.graphs else sys.maxsize):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when it takes longer."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def quality(wanted: Recipe, sets: Sets, device: str) -> str:
    """Train in full; returns a line about speed and quality."""
    where = torch.device(device)
    training, validation = data.split(sets.train_images.to(where), wanted.validation_size)
    state = checkpoint.start(wanted, tuple(training.shape[1:]), where)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train.fit(wanted, state, training, validation, Path(folder))
    whole = time.perf_counter() - began
    found = score(wanted, state.average, sets.test_images.to(where))
    validated = score(wanted, state.average, validation)
    shipped = json.loads((MODELS / BUNDLE / "model.json").read_text())["metrics"]["total"]
    return (
        f"{wanted.name}, {wanted.epochs} epochs: {state.seconds / wanted.epochs:.3f} s an epoch, {whole:.1f} s in all "
        f"with validation, log and checkpoints; total {validated.total:.2f} on validation images, {found.total:.2f} on "
        f"test images, where {BUNDLE} (trained on a CPU) has {shipped:.2f}"
    )


class Parts:
    """Parts of a benchmark that may fail, within a time for all of them."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def attempt(self, name: str, part: Callable[[], str]) -> None:
        """Print what comes of a part, or why nothing does."""
        if time.monotonic() > self._end:
            print(f"{name}: left out, the time is used up", flush=True)
            return
        try:
            print(part(), flush=True)
        except Exception:
            print(f"{name} failed:\n{traceback.format_exc(limit=-4)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training_gpu", description="How fast training is on a GPU.")
    parser.add_argument("--data-dir", type=Path, help="directory of MNIST's files; without it they are downloaded")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try this program out")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help=f"default: {' '.join(RECIPES)}")
    parser.add_argument("--seconds", type=float, default=120, help="no part is begun after these (default: 120)")
    parser.add_argument("--images", type=int, help="train on the first so many, to try this program out")
    parser.add_argument("--epochs", type=int, help="of the run in full; default: those of the recipe")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device that this PyTorch can use.", file=sys.stderr)
        return 1

    train.prepare_cpu()
    sets = data.load_both("mnist", options.data_dir)
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"{gpu}; {machine()}, torch {torch.__version__}\n")
    parts = Parts(options.seconds)

    def row(wanted: Recipe, way: Way) -> Callable[[], str]:
        training, _ = data.split(sets.train_images, wanted.validation_size)
        images = training[: options.images]

        def measure() -> str:
            seconds = seconds_of_epoch(wanted, images, way, options.device)
            limit = WANTED.get(wanted.name, "") if way.device == "cuda" and way.graphs else ""
            return f"| {wanted.name} | {way.name} | {seconds:.3f} | {len(images) / seconds:,.0f} | {limit} |"

        return measure

    print("| recipe | steps | s an epoch | images/s | wanted, at most |\n|---|---|---|---|---|")
    for wanted in map(recipe.read, options.recipes):
        for way in WAYS:
            if wanted.gradient_limit and not way.fused:
                continue  # only the fused optimiser leaves out a step by itself
            parts.attempt(f"{wanted.name}, {way.name}", row(wanted, way))
    print()
    full = recipe.read("mnist-mlp")
    full = full.model_copy(update={"epochs": options.epochs or full.epochs})
    if options.images:
        kept = sets.train_images[: options.images + full.validation_size]
        sets = Sets(kept, sets.train_labels[: len(kept)], sets.test_images, sets.test_labels)
    parts.attempt("the run in full", lambda: quality(full, sets, options.device))
    print()
    parts.attempt("torch.compile", row(recipe.read("mnist-resmlp-base"), COMPILED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
