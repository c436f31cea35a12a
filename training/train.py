"""The loop: images in, trained weights out.

The data set is one uint8 tensor that a step draws its batch from; there is no loader, no worker, no copy of the set.
`epoch` is the whole of training; `fit` repeats it with what a run needs around it: validation, progress, log,
checkpoints, Ctrl-C.
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
from torch.utils.tensorboard import SummaryWriter

from training import checkpoint, pictures
from training.checkpoint import State
from training.errors import TrainingError
from training.evaluate import Score, score
from training.model import to_signal
from training.objective import distortion, rate, reparametrise
from training.progress import Progress
from training.recipe import Recipe

PANEL_IMAGES: Final = 8


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


def epoch(recipe: Recipe, state: State, images: Tensor, advance: Callable[[int], None]) -> Score:
    """Take a step for each batch of uint8 images [N, *image_shape], in a new order; `advance` hears each batch's size.

    Returns the objective as it was met on the way, with the weights of the moment. Raises TrainingError when it is no
    longer finite.
    """
    model, optimiser = state.model, state.optimiser
    weights: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(state.average.parameters())
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    met = torch.zeros(2, device=images.device)  # distortion and rate, summed over images

    order = torch.randperm(len(images), generator=state.order).to(images.device)
    for indices in torch.split(order, recipe.batch_size):
        x = to_signal(images.index_select(0, indices))  # [B, *image_shape]
        mu, logvar = model.encode(x)  # [B, L] each
        z = reparametrise(mu, logvar, state.noise)  # [B, L]
        x_hat = model.decode(z)  # [B, *image_shape]
        distortions, rates = distortion(x_hat, x), rate(mu, logvar)  # [B] each
        loss = (distortions + rates).mean()

        optimiser.param_groups[0]["lr"] = learning_rate(recipe, state.step / steps)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        state.step += 1

        if recipe.averaging_decay:
            # The average begins short, so that it forgets the first, random weights.
            decay = min(recipe.averaging_decay, state.step / (state.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(averaged, weights, 1 - decay)
        met += torch.stack([distortions.detach().sum(), rates.detach().sum()])
        advance(len(indices))

    result = Score(*(met / len(images)).tolist())
    if not math.isfinite(result.total):
        raise TrainingError(f"The loss is no longer finite in epoch {state.epoch + 1}: try a smaller --learning-rate.")
    return result


def fit(recipe: Recipe, state: State, training: Tensor, validation: Tensor, folder: Path) -> None:
    """Train from `state` to the recipe's last epoch, with checkpoints and TensorBoard's log in `folder`.

    `training` and `validation` are uint8 [N, *image_shape], where the model is. Raises Interrupted after the first
    SIGINT or SIGTERM, at the end of the running epoch and with a checkpoint written; a second one stops at once.
    """
    with (
        SummaryWriter(folder / "tensorboard", purge_step=state.epoch + 1) as log,
        Progress(recipe.epochs, len(training), state.epoch) as progress,
        Stop() as stop,
    ):
        while state.epoch < recipe.epochs:
            began = time.perf_counter()
            met = epoch(recipe, state, training, progress.advance)
            images_per_second = len(training) / (time.perf_counter() - began)
            state.epoch += 1

            validated = score(state.average, validation)
            progress.epoch_done(state.epoch, validated, images_per_second)
            for part, terms in (("train", met), ("validation", validated)):
                log.add_scalar(f"distortion/{part}", terms.distortion, state.epoch)
                log.add_scalar(f"rate/{part}", terms.rate, state.epoch)
                log.add_scalar(f"total/{part}", terms.total, state.epoch)
            log.add_scalar("learning_rate", state.optimiser.param_groups[0]["lr"], state.epoch)
            log.add_scalar("images_per_second", images_per_second, state.epoch)

            if stop.requested or state.epoch % recipe.checkpoint_every == 0 or state.epoch == recipe.epochs:
                checkpoint.save(folder / checkpoint.CHECKPOINT, recipe, state)
                for part, images in (("train", training), ("validation", validation)):
                    panel = pictures.beside(*pictures.reconstructed(state.average, images[:PANEL_IMAGES]))
                    log.add_image(f"reconstruction/{part}", panel, state.epoch, dataformats="HW")
            if stop.requested:
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
