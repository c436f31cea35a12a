"""The training loop: images in, trained weights out.

The data set is one uint8 tensor, from which each step takes its batch. There is no loader, no worker process and no
copy of the set. `epoch` trains once on every image. `fit` repeats it, with validation, progress, log, checkpoints and
Ctrl-C. Several processes can share the work (`training.process_group`).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

import torch
from torch import Tensor

from training import augment, checkpoint
from training.checkpoint import State
from training.errors import TrainingError
from training.objective import Objective
from training.process_group import ALONE, ProcessGroup
from training.progress import Log, Progress
from training.recipe import Recipe
from training.score import Score, score

PANEL_IMAGES: Final = 8
LOG: Final = "log.txt"
TENSORBOARD: Final = "tensorboard"


class Interrupted(Exception):
    """The user asked to stop. The run is saved as it was at the end of the epoch."""


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The step size when `progress`, 0 to 1, is the share of all steps that are done.

    "one-cycle" rises from `initial_factor` to the full rate during `warmup`, then falls to `final_factor`, both along
    half a cosine (Smith & Topin 2018, as in torch's OneCycleLR). "constant" does not change.
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if progress < recipe.warmup:
        begin, end, share = recipe.initial_factor, 1.0, progress / recipe.warmup
    else:
        begin, end, share = 1.0, recipe.final_factor, (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (end + (begin - end) * (1 + math.cos(math.pi * share)) / 2)


def epoch(
    recipe: Recipe, state: State, images: Tensor, advance: Callable[[int], None], group: ProcessGroup = ALONE
) -> Score:
    """Take a step for each batch of uint8 images [N, *image_shape], in a new random order.

    `advance` is called with the size of each batch. Returns the mean objective over the epoch, each batch with the
    weights of its step. Raises TrainingError when it is no longer finite.
    """
    weights: list[Tensor] = list(state.model.parameters())
    averaged: list[Tensor] = list(state.average.parameters())
    objective = Objective(recipe, group)
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    met = torch.zeros(2, device=images.device)  # distortion and rate, summed over images

    order = torch.randperm(len(images), generator=state.order).to(images.device)
    for indices in torch.split(order, recipe.batch_size):
        x, noise = _share(recipe, state, objective, images.index_select(0, indices), group)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            terms = objective.terms(state.model, x, noise, state.step / steps)
        for options in state.optimiser.param_groups:
            options["lr"] = learning_rate(recipe, state.step / steps)
        state.optimiser.zero_grad()
        terms.loss.backward()  # type: ignore[no-untyped-call]
        group.sum_gradients(weights)
        # Where gradients are limited, a step whose gradient overflowed is left out: its direction means nothing.
        if not recipe.gradient_limit or torch.nn.utils.clip_grad_norm_(weights, recipe.gradient_limit).isfinite():
            state.optimiser.step()
        state.step += 1
        if recipe.averaging_decay:
            _average(averaged, weights, recipe.averaging_decay, state.step)
        met += torch.stack([terms.distortion.sum(), terms.rate.sum()])
        advance(len(indices))

    result = Score(*(group.sum(met) / len(images)).tolist())
    if not math.isfinite(result.total):
        raise TrainingError(f"The loss is no longer finite in epoch {state.epoch + 1}: try a smaller --learning-rate.")
    return result


def _share(
    recipe: Recipe, state: State, objective: Objective, batch: Tensor, group: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """One process's share of the network's input, [B, ...], and of the noise, [k, B, L], for uint8 images [B, ...].

    Every process draws the random numbers of the whole batch, so that all generators stay equal.
    """
    if recipe.augmentation:
        batch = augment.warped(batch, recipe.augmentation, state.noise)
    x = objective.signal(batch, state.noise)
    shape = (recipe.importance_samples, len(batch), recipe.latent_dim)
    noise = torch.randn(shape, generator=state.noise, device=state.noise.device)
    return group.share(x), group.share(noise, axis=1)


@torch.no_grad()
def _average(averaged: list[Tensor], weights: list[Tensor], decay: float, step: int) -> None:
    """Update the moving average of the weights. It begins short, so that it forgets the random first weights."""
    torch._foreach_lerp_(averaged, weights, 1 - min(decay, step / (step + 10)))


def fit(
    recipe: Recipe, state: State, training: Tensor, validation: Tensor, folder: Path, group: ProcessGroup = ALONE
) -> None:
    """Train from `state` to the recipe's last epoch, with checkpoints and TensorBoard's log in `folder`.

    `training` and `validation` are uint8 [N, *image_shape], on the model's device. After the first SIGINT or SIGTERM
    the running epoch ends, a checkpoint is written, and Interrupted is raised. A second signal stops at once.
    """
    with (
        Log(folder / TENSORBOARD, state.epoch, silent=not group.first) as log,
        Progress(recipe.epochs, len(training), state.epoch, folder / LOG, silent=not group.first) as progress,
        Stop() as stop,
    ):
        while state.epoch < recipe.epochs:
            began = time.perf_counter()
            met = epoch(recipe, state, training, progress.advance, group)
            seconds = time.perf_counter() - began
            state.epoch += 1
            state.seconds += seconds

            validated = score(recipe, state.average, validation, group)
            state.history.append((met.distortion, met.rate, validated.distortion, validated.rate))
            progress.epoch_done(state.epoch, validated, len(training) / seconds)
            log.epoch_done(state, met, validated, len(training) / seconds)

            stopping = group.any(stop.requested)
            if group.first and (stopping or state.epoch % recipe.checkpoint_every == 0 or state.epoch == recipe.epochs):
                checkpoint.save(folder / checkpoint.CHECKPOINT, recipe, state)
                log.panels(state, train=training[:PANEL_IMAGES], validation=validation[:PANEL_IMAGES])
            if stopping:
                raise Interrupted


def prepare_cpu() -> None:
    """Make training on a CPU faster, for this process. To be called before the first tensor is made.

    Numbers that are too small for float32's normal range are slow to compute with. Adam's moments become such numbers
    where a weight has no gradient. So they are rounded to zero.

    malloc would take the memory of each gradient from the kernel and give it back at every step, which costs page
    faults. When a block of up to 32 MiB is freed, glibc keeps blocks of that size from then on (mallopt(3),
    M_MMAP_THRESHOLD).
    """
    torch.set_flush_denormal(True)  # for this thread and for those that it starts later
    torch.empty(31 << 20, dtype=torch.uint8)


class Stop:
    """A context in which the first SIGINT or SIGTERM only sets `requested`. The second one has its usual effect."""

    _SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in self._SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
