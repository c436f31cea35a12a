"""How far a run is: a line an epoch, and on a terminal a bar below them."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from training.evaluate import Score


class Progress:
    """A context that shows epoch, distortion, rate and total on validation, images per second and time left."""

    def __init__(self, epochs: int, images: int, epochs_done: int) -> None:
        self._epochs = epochs
        self._first = epochs_done
        self._began = time.monotonic()
        self._console = Console()
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.1f} %"),
            TimeRemainingColumn(),
            console=self._console,
            expand=True,
            refresh_per_second=4,  # a thread that draws takes its time from the one that trains
            disable=not self._console.is_terminal,
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
        """Show what the epoch came to."""
        left = (time.monotonic() - self._began) / (epoch - self._first) * (self._epochs - epoch)
        minutes, seconds = divmod(round(left), 60)
        self._console.print(
            f"epoch {epoch}/{self._epochs}, validation: distortion {validated.distortion:.2f} + "
            f"rate {validated.rate:.2f} = total {validated.total:.2f}, "
            f"{images_per_second:,.0f} images/s, {minutes}:{seconds:02} left",
            highlight=False,
            soft_wrap=True,
        )
        self._bar.update(self._task, epoch=min(epoch + 1, self._epochs))
