"""The loop: images in, trained weights out.

The data set is one uint8 tensor that a step draws its batch from; there is no loader, no worker, no copy of the set.
`epoch` is the whole of training; `fit` repeats it with what a run needs around it: validation, progress, log,
checkpoints, Ctrl-C. Several processes can share both (`training.process_group`).
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
    """The user asked to stop; everything is saved up to the end of the running epoch."""


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The step size when this share, 0 to 1, of all steps is done.

    "one-cycle" rises from `initial_factor` to the full rate during `warmup`, then falls to `final_factor`, both along
    half a cosine (Smith & Topin 2018, as in torch's OneCycleLR); "constant" does neither.
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
    """Take a step for each batch of uint8 images [N, *image_shape], in a new order; `advance` hears each batch's size.

    Returns the objective as it was met on the way, with the weights of the moment. Raises TrainingError when it is no
    longer finite.
    """
    model, optimiser, objective = state.model, state.optimiser, Objective(recipe, group)
    weights: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(state.average.parameters())
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    met = torch.zeros(2, device=images.device)  # distortion and rate, summed over images

    order = torch.randperm(len(images), generator=state.order).to(images.device)
    for indices in torch.split(order, recipe.batch_size):
        # Every process draws for the whole batch, [B, ...] and [k, B, L], and works on its share.
        batch = images.index_select(0, indices)
        if recipe.augmentation:
            batch = augment.warped(batch, recipe.augmentation, state.noise)
        x = group.share(objective.signal(batch, state.noise))
        noise = group.share(
            torch.randn(
                (recipe.importance_samples, len(indices), recipe.latent_dim),
                generator=state.noise,
                device=state.noise.device,
            ),
            axis=1,
        )
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            terms = objective.terms(model, x, noise, state.step / steps)

        for options in optimiser.param_groups:
            options["lr"] = learning_rate(recipe, state.step / steps)
        optimiser.zero_grad()
        terms.loss.backward()  # type: ignore[no-untyped-call]
        group.sum_gradients(weights)
        # A gradient that overflowed says nothing of the way down: no step then, where gradients are guarded.
        if not recipe.gradient_limit or torch.nn.utils.clip_grad_norm_(weights, recipe.gradient_limit).isfinite():
            optimiser.step()
        state.step += 1

        if recipe.averaging_decay:
            # The average begins short, so that it forgets the first, random weights.
            decay = min(recipe.averaging_decay, state.step / (state.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(averaged, weights, 1 - decay)
        met += torch.stack([terms.distortion.sum(), terms.rate.sum()])
        advance(len(indices))

    result = Score(*(group.sum(met) / len(images)).tolist())
    if not math.isfinite(result.total):
        raise TrainingError(f"The loss is no longer finite in epoch {state.epoch + 1}: try a smaller --learning-rate.")
    return result


def fit(
    recipe: Recipe, state: State, training: Tensor, validation: Tensor, folder: Path, group: ProcessGroup = ALONE
) -> None:
    """Train from `state` to the recipe's last epoch, with checkpoints and TensorBoard's log in `folder`.

    `training` and `validation` are uint8 [N, *image_shape], where the model is. Raises Interrupted after the first
    SIGINT or SIGTERM, at the end of the running epoch and with a checkpoint written; a second one stops at once.
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
    """Set two switches of the process that make training on a CPU faster; to be called before the first tensor is made.

    Adam's moments of weights without a gradient fade into denormal numbers, which are slow: they become zero instead.
    And malloc keeps the megabyte of each gradient instead of giving it back to the kernel at every step, which costs
    page faults: when a block of up to 32 MiB is freed, glibc raises the size from which it asks the kernel anew
    (mallopt(3), M_MMAP_THRESHOLD).
    """
    torch.set_flush_denormal(True)  # for this thread and those it starts, which is why it comes first
    torch.empty(31 << 20, dtype=torch.uint8)


class Stop:
    """A context in which the first SIGINT or SIGTERM only sets `requested`; the second has its usual effect."""

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
