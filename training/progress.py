"""The progress of a training: a line for each epoch, on a terminal also a bar, and TensorBoard's log."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training import pictures
from training.checkpoint import State
from training.score import Score


class Progress:
    """A context that shows epoch, distortion, rate and total on validation, images per second and time left.

    The lines are also appended to `file`. With `silent` there are none.
    """

    def __init__(
        self, epochs: int, images: int, epochs_done: int, file: Path | None = None, *, silent: bool = False
    ) -> None:
        self._file = None if silent else file
        self._epochs = epochs
        self._first = epochs_done
        self._began = time.monotonic()
        self._console = Console(quiet=silent)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.1f} %"),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            refresh_per_second=4,  # drawing takes time from the training
            disable=silent or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=epochs * images, completed=epochs_done * images, epoch=epochs_done + 1, epochs=epochs
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, images: int) -> None:
        """Count the images of one step."""
        self._bar.advance(self._task, images)

    def epoch_done(self, epoch: int, validated: Score, images_per_second: float) -> None:
        """Show the figures of an epoch."""
        left = (time.monotonic() - self._began) / (epoch - self._first) * (self._epochs - epoch)
        minutes, seconds = divmod(round(left), 60)
        line = (
            f"epoch {epoch}/{self._epochs}, validation: distortion {validated.distortion:.2f} + "
            f"rate {validated.rate:.2f} = total {validated.total:.2f}, "
            f"{images_per_second:,.0f} images/s, {minutes}:{seconds:02} left"
        )
        self._console.print(line, highlight=False, soft_wrap=True)
        if self._file:
            with self._file.open("a") as log:
                log.write(f"{line}\n")
        self._bar.update(self._task, epoch=min(epoch + 1, self._epochs))


class Log:
    """A context that writes a run's curves and panels for TensorBoard. With `silent` it writes nothing."""

    def __init__(self, folder: Path, epochs_done: int, *, silent: bool) -> None:
        self._writer = None if silent else SummaryWriter(folder, purge_step=epochs_done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.close()

    def epoch_done(self, state: State, met: Score, validated: Score, images_per_second: float) -> None:
        """Write the figures of an epoch."""
        if not self._writer:
            return
        for part, terms in (("train", met), ("validation", validated)):
            self._writer.add_scalar(f"distortion/{part}", terms.distortion, state.epoch)
            self._writer.add_scalar(f"rate/{part}", terms.rate, state.epoch)
            self._writer.add_scalar(f"total/{part}", terms.total, state.epoch)
        self._writer.add_scalar("learning_rate", state.optimiser.param_groups[0]["lr"], state.epoch)
        self._writer.add_scalar("images_per_second", images_per_second, state.epoch)

    def panels(self, state: State, **images: Tensor) -> None:
        """Write a panel for each part: uint8 images [N, *image_shape] beside the averaged model's reconstructions."""
        if not self._writer:
            return
        for part, shown in images.items():
            panel = pictures.beside(*pictures.reconstructed(state.average, shown))
            layout = "HWC" if panel.ndim == 3 else "HW"
            self._writer.add_image(f"reconstruction/{part}", panel, state.epoch, dataformats=layout)
