"""Progress of work in named steps, on standard error: a bar on a terminal, else a line for each step.

Standard output is left to results, which a program may want to read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# Off a terminal, a step that takes longer than this says how far it is each time so many seconds have passed.
SECONDS_BETWEEN_LINES: Final = 15.0

Advance = Callable[[int], None]


class Steps:
    """A context that shows the steps of some work, each with its name, its size and the time it takes.

    With `silent` it shows nothing.
    """

    def __init__(self, *, silent: bool = False, file: TextIO | None = None) -> None:
        self._console = Console(file=file or sys.stderr, quiet=silent, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=silent or not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, name: str, total: int = 1) -> Iterator[Advance]:
        """A context for one step of `total` parts; call what it gives with the number of parts that are done.

        A step that is left without an error counts as done in full.
        """
        task = self._bars.add_task(name, total=total)
        line = _Lines(name, total, self._console)

        def advance(parts: int) -> None:
            self._bars.advance(task, parts)
            if self._bars.disable:
                line.advance(parts)

        yield advance
        self._finish(task, total, line)

    def _finish(self, task: TaskID, total: int, line: _Lines) -> None:
        self._bars.update(task, completed=total)
        self._bars.stop_task(task)
        if self._bars.disable:
            line.finish()


class _Lines:
    """What is printed of a step where there is no terminal."""

    def __init__(self, name: str, total: int, console: Console) -> None:
        self._name, self._total, self._console = name, total, console
        self._done = 0
        self._began = self._told = time.monotonic()

    def advance(self, parts: int) -> None:
        self._done += parts
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._console.print(f"  {self._name}: {self._done:,} of {self._total:,}")

    def finish(self) -> None:
        self._console.print(f"  {self._name}: done in {time.monotonic() - self._began:.1f} s")


SILENT: Final = Steps(silent=True)
