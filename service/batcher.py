"""Dynamic batching without a timer: whoever arrives in the same turn of the event loop shares one run.

On an idle engine a turn's requests run at once, as one batch. While a batch runs off the loop, the next one gathers; it
starts when the first is done. Nobody waits for a clock, so one client alone is never slower than without this module.

Batches pay even for a model of 25 microseconds, for a run's fixed cost and its cold caches are shared. Small ones run
on the loop itself, where they cost less than a hop to a thread and back; larger ones leave the loop to the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds, over all of its runs: waiting for the engine, and in it."""

    queue: float = 0.0
    compute: float = 0.0


class Batcher:
    """The lanes in front of one engine, and the one thread for what runs off the loop.

    One thread, because an engine's runs share the machine's cores: two at once would only take turns.
    """

    def __init__(self, name: str, *, most: int, inline: int) -> None:
        """Batch up to `most` rows of different requests, and run up to `inline` rows on the event loop itself.

        `most` of 1 switches batching off: every request is a run of its own.
        """
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._most = most
        self._inline = inline

    def lane(self, run: Callable[[Any], Arrays]) -> Lane:
        """A queue of its own for one kind of run: rows [N, ...] in, arrays of N rows out, each row for itself."""
        return Lane(run, self._executor, self._most, self._inline)

    def close(self) -> None:
        """Finish what is running, then let the thread go."""
        self._executor.shutdown()


class _Waiting:
    """One request's rows in a queue."""

    __slots__ = ("answer", "queued", "rows", "timing")

    def __init__(self, rows: Array, timing: Timing, answer: asyncio.Future[Arrays]) -> None:
        self.rows = rows
        self.timing = timing
        self.answer = answer
        self.queued = time.perf_counter()


class Lane:
    """A queue of rows for one kind of run."""

    def __init__(self, run: Callable[[Any], Arrays], executor: ThreadPoolExecutor, most: int, inline: int) -> None:
        self._run = run
        self._executor = executor
        self._most = most
        self._inline = inline
        self._waiting: list[_Waiting] = []
        self._busy = False  # a flush is planned, or a batch is running off the loop

    def submit(self, rows: Array, timing: Timing) -> asyncio.Future[Arrays]:
        """Queue rows [N, ...]; the answer is the run's arrays, N rows each."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Arrays] = loop.create_future()
        self._waiting.append(_Waiting(rows, timing, answer))
        if not self._busy:
            self._busy = True
            if self._most == 1:
                self._flush(loop)
            else:
                loop.call_soon(self._flush, loop)
        return answer

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        rows = batch[0].rows if len(batch) == 1 else np.concatenate([waiting.rows for waiting in batch])
        if len(rows) <= self._inline:
            self._answer(batch, *_timed(self._run, rows))
            self._go_on(loop)
        else:
            running = loop.run_in_executor(self._executor, _timed, self._run, rows)
            running.add_done_callback(lambda done: self._done(loop, batch, done))

    def _done(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], done: asyncio.Future[tuple[Any, float, float]]
    ) -> None:
        self._answer(batch, *done.result())
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            loop.call_soon(self._flush, loop)
        else:
            self._busy = False

    def _take(self) -> list[_Waiting]:
        """The next batch: as many requests, in order, as fit into `most` rows, and at least one."""
        rows = 0
        for count, waiting in enumerate(self._waiting):
            rows += len(waiting.rows)
            if count and rows > self._most:
                batch = self._waiting[:count]
                del self._waiting[:count]
                return batch
        batch, self._waiting = self._waiting, []
        return batch

    @staticmethod
    def _answer(batch: list[_Waiting], outcome: Arrays | Exception, started: float, ended: float) -> None:
        first = 0
        for waiting in batch:
            waiting.timing.queue += started - waiting.queued
            waiting.timing.compute += ended - started
            last = first + len(waiting.rows)
            if not waiting.answer.done():  # a request may be gone by now
                if isinstance(outcome, Exception):
                    waiting.answer.set_exception(outcome)
                else:
                    waiting.answer.set_result(tuple(array[first:last] for array in outcome))
            first = last


def _timed(run: Callable[[Array], Arrays], rows: Array) -> tuple[Arrays | Exception, float, float]:
    """What a run gives or raises, and when it started and ended."""
    started = time.perf_counter()
    outcome: Arrays | Exception
    try:
        outcome = run(rows)
    except Exception as error:  # whatever it is, it belongs to those who wait for this run
        outcome = error
    return outcome, started, time.perf_counter()
