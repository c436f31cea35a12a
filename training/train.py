"""The training loop: images in, trained weights out.

The data set is one uint8 tensor, from which each step takes its batch. There is no loader, no worker process and no
copy of the set. `epoch` trains once on every image. `fit` repeats it, with validation, progress, log, checkpoints and
Ctrl-C. Several processes can share the work (`training.process_group`).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor

from training import augment, checkpoint
from training.captured import Captured
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


class Numbers(NamedTuple):
    """What differs from step to step. In a CUDA graph each is a tensor of one number on the GPU."""

    progress: float | Tensor  # share of all steps that are done, 0 to 1
    learning_rate: float | Tensor
    renewal: float | Tensor  # share of the new weights in their moving average


def numbers(recipe: Recipe, step: int, steps: int) -> Numbers:
    """Those of a step, when `step` of all `steps` are done.

    The moving average of the weights begins short, so that it forgets the random first weights.
    """
    renewal = 1 - min(recipe.averaging_decay, (step + 1) / (step + 11))
    return Numbers(step / steps, learning_rate(recipe, step / steps), renewal)


class Step:
    """A step of a run: one batch of uint8 `images` [N, *image_shape], from its images to the next weights.

    On a GPU, steps of a run of one process are CUDA graphs. `met` is distortion and rate, summed over images, [2].
    """

    def __init__(self, recipe: Recipe, state: State, images: Tensor, group: ProcessGroup = ALONE) -> None:
        self._recipe, self._state, self._images, self._group = recipe, state, images, group
        self._objective = Objective(recipe, group)
        self._weights: list[Tensor] = list(state.model.parameters())
        self._averaged: list[Tensor] = list(state.average.parameters())
        self.met = torch.zeros(2, device=images.device)
        # Messages between processes are left out of graphs: there the network is large enough to hide the launches.
        alone = images.is_cuda and group.size == 1
        self._captured = Captured(self._take_tensors, state.noise) if alone else None

    def epoch(self, order: Tensor) -> Iterator[int]:
        """Take a step for each batch of the images in this order, int64 [N]. Yields the number of images after each."""
        batches = torch.split(order, self._recipe.batch_size)
        first, steps = self._state.step, self._recipe.epochs * len(batches)
        planned = [numbers(self._recipe, step, steps) for step in range(first, first + len(batches))]
        take: Callable[[Tensor, Any], None] = self._captured or self._take
        rows = torch.tensor(planned).to(self._images.device) if self._captured else planned  # a tensor [steps, 3]
        self.met.zero_()
        for indices, now in zip(batches, rows, strict=True):
            take(indices, now)
            self._state.step += 1
            yield len(indices)
        for options in self._state.optimiser.param_groups:  # for the log, and for a checkpoint of any device
            options.update(lr=planned[-1].learning_rate, capturable=False)

    def _take_tensors(self, indices: Tensor, row: Tensor) -> None:
        for options in self._state.optimiser.param_groups:
            options["capturable"] = True  # without it AdamW refuses to be captured
        self._take(indices, Numbers(*row.unbind()))

    def _take(self, indices: Tensor, now: Numbers) -> None:
        recipe, optimiser = self._recipe, self._state.optimiser
        x, noise = self._share(self._images.index_select(0, indices))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            terms = self._objective.terms(self._state.model, x, noise, now.progress)
        for options in optimiser.param_groups:
            options["lr"] = now.learning_rate
        optimiser.zero_grad()
        terms.loss.backward()  # type: ignore[no-untyped-call]
        self._group.sum_gradients(self._weights)
        if recipe.gradient_limit:
            norm = torch.nn.utils.clip_grad_norm_(self._weights, recipe.gradient_limit)
            # The optimiser leaves out a step whose gradient overflowed: its direction means nothing.
            optimiser.found_inf = norm.isfinite().logical_not().float()  # type: ignore[attr-defined]
        optimiser.step()
        if recipe.averaging_decay:
            _average(self._averaged, self._weights, now.renewal)
        self.met += torch.stack([terms.distortion.sum(), terms.rate.sum()])

    def _share(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """One process's share of the network's input, [B, ...], and of the noise, [k, B, L], for uint8 images [B, ...].

        Every process draws the random numbers of the whole batch, so that all generators stay equal.
        """
        recipe, generator = self._recipe, self._state.noise
        if recipe.augmentation:
            batch = augment.warped(batch, recipe.augmentation, generator)
        x = self._objective.signal(batch, generator)
        shape = (recipe.importance_samples, len(batch), recipe.latent_dim)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        return self._group.share(x), self._group.share(noise, axis=1)


@torch.no_grad()
def _average(averaged: list[Tensor], weights: list[Tensor], renewal: float | Tensor) -> None:
    """Update the moving average of the weights."""
    if isinstance(renewal, Tensor):  # which _foreach_lerp_ does not take
        change = torch._foreach_sub(weights, averaged)
        torch._foreach_mul_(change, renewal)
        torch._foreach_add_(averaged, change)
    else:
        torch._foreach_lerp_(averaged, weights, renewal)


def epoch(
    recipe: Recipe,
    state: State,
    images: Tensor,
    advance: Callable[[int], None],
    group: ProcessGroup = ALONE,
    step: Step | None = None,
) -> Score:
    """Take a step for each batch of uint8 images [N, *image_shape], in a new random order.

    `advance` is called with the size of each batch. `step` is that of an earlier epoch of these images. Returns the
    mean objective over the epoch, each batch with the weights of its step. Raises TrainingError when it is no longer
    finite.
    """
    step = step or Step(recipe, state, images, group)
    order = torch.randperm(len(images), generator=state.order).to(images.device)
    for size in step.epoch(order):
        advance(size)
    result = Score(*(group.sum(step.met) / len(images)).tolist())
    if not math.isfinite(result.total):
        raise TrainingError(f"The loss is no longer finite in epoch {state.epoch + 1}: try a smaller --learning-rate.")
    return result


def fit(
    recipe: Recipe, state: State, training: Tensor, validation: Tensor, folder: Path, group: ProcessGroup = ALONE
) -> None:
    """Train from `state` to the recipe's last epoch, with checkpoints and TensorBoard's log in `folder`.

    `training` and `validation` are uint8 [N, *image_shape], on the model's device. After the first SIGINT or SIGTERM
    the running epoch ends, a checkpoint is written, and Interrupted is raised. A second signal stops at once.
    """
    step = Step(recipe, state, training, group)
    with (
        Log(folder / TENSORBOARD, state.epoch, silent=not group.first) as log,
        Progress(recipe.epochs, len(training), state.epoch, folder / LOG, silent=not group.first) as progress,
        Stop() as stop,
    ):
        while state.epoch < recipe.epochs:
            began = time.perf_counter()
            met = epoch(recipe, state, training, progress.advance, group, step)
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
