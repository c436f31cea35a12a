"""Dynamic batching without a timer: whoever arrives in the same turn of the event loop shares one run.

On an idle engine a turn's requests run at once, as one batch. While a batch runs off the loop, the next one gathers; it
starts when the first is done. Nobody waits for a clock, so one client alone is never slower than without this module.

Batches pay even for a model of 25 microseconds, for a run's fixed cost and its cold caches are shared. Small ones run
on the loop itself, where they cost less than a hop to a thread and back; larger ones leave the loop to the others.

Sharing a run is all that requests share: when it fails, it is done again in halves, until only those fail that fail on
their own. What has expired, or whose client has gone, is dropped before it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import ClientGone, DeadlineExceeded
from service.inference.job import Job

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Run = Callable[[Any], Arrays]


def uncounted(*_: object) -> None:
    """Count nothing."""


@dataclass(slots=True)
class EngineStatus:
    """How an engine fares.

    `failure`: what its last run failed on, or None. `since`: when the run off the loop that has not ended yet began, a
    reading of time.perf_counter, or None.
    """

    failure: Exception | None = None
    since: float | None = None


class Batcher:
    """The lanes in front of one engine, and the one thread for what runs off the loop.

    One thread, because an engine's runs share the machine's cores: two at once would only take turns.
    """

    def __init__(self, name: str, *, most: int, inline: int, count: Callable[[str, int], None] = uncounted) -> None:
        """Batch up to `most` rows of different requests, and run up to `inline` rows on the event loop itself.

        `most` of 1 switches batching off: every request is a run of its own. `count` is told of each batch, on the
        loop: the kind of its lane, and its rows.
        """
        self.count = count
        self.status = EngineStatus()
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.most = most
        self.inline = inline

    def queue(self, kind: str, run: Run) -> BatchQueue:
        """A queue of its own for one kind of run: rows [N, ...] in, arrays of N rows out, each row for itself."""
        return BatchQueue(kind, run, self)

    def close(self) -> None:
        """Finish what is running, then let the thread go."""
        self.executor.shutdown()


class _Waiting:
    """One request's rows in a queue."""

    __slots__ = ("answer", "job", "queued", "rows", "timer")

    def __init__(self, rows: Array, job: Job, answer: asyncio.Future[Arrays]) -> None:
        self.rows = rows
        self.job = job
        self.answer = answer
        self.queued = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """Answer that it is too late; the run's own answer will find nobody."""
        if not self.answer.done():
            self.answer.set_exception(DeadlineExceeded())


class BatchQueue:
    """A queue of rows for one kind of run."""

    def __init__(self, kind: str, run: Run, batcher: Batcher) -> None:
        self._loop: asyncio.AbstractEventLoop  # the one that it is used from; known once it is busy
        self._kind = kind
        self._run = run
        self._batcher = batcher
        self._waiting: list[_Waiting] = []
        self._busy = False  # a flush is planned, or a batch is running off the loop
        self._away = False  # a batch is running off the loop

    def submit(self, rows: Array, job: Job) -> asyncio.Future[Arrays]:
        """Queue rows [N, ...]; the answer is the run's arrays, N rows each.

        It raises what the run raises on these rows, and DeadlineExceeded or ClientGone.
        """
        if not self._busy:
            self._loop = asyncio.get_running_loop()  # asked once for a batch, for it asks the kernel
        waiting = _Waiting(rows, job, self._loop.create_future())
        self._waiting.append(waiting)
        if self._away:  # else it runs within this turn of the loop, and the clock is looked at then
            self._watch(waiting)
        elif not self._busy:
            self._busy = True
            if self._batcher.most == 1:
                self._flush()
            else:
                self._loop.call_soon(self._gather)
        return waiting.answer

    def _gather(self) -> None:
        """Let the loop look at its connections once more: whoever spoke while this turn's requests were read joins."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch = self._take()
        parts = [waiting.rows for waiting in batch]
        rows = sum(map(len, parts))
        if rows:
            self._batcher.count(self._kind, rows)
        if rows <= self._batcher.inline:
            self._answer(batch, *self._timed(parts))
            self._go_on()
        else:
            for waiting in batch:
                self._watch(waiting)
            self._away = True
            running = self._loop.run_in_executor(self._batcher.executor, self._away_from_loop, parts)
            running.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[_Waiting], done: asyncio.Future[tuple[list[Arrays | Exception], float, float]]) -> None:
        self._away = False
        self._answer(batch, *done.result())
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._loop.call_soon(self._flush)
        else:
            self._busy = False

    def _take(self) -> list[_Waiting]:
        """The next batch: as many requests, in order, as fit into `most` rows, and at least one if any is left.

        Those that nobody waits for any more leave the queue unworked.
        """
        now = time.perf_counter()
        batch: list[_Waiting] = []
        rows = 0
        for count, waiting in enumerate(self._waiting):
            if waiting.answer.done():
                continue
            job = waiting.job
            if job.gone or now >= job.deadline:
                waiting.answer.set_exception(ClientGone() if job.gone else DeadlineExceeded())
                continue
            rows += len(waiting.rows)
            if batch and rows > self._batcher.most:
                del self._waiting[:count]
                return batch
            batch.append(waiting)
        self._waiting = []
        return batch

    def _away_from_loop(self, parts: Sequence[Array]) -> tuple[list[Arrays | Exception], float, float]:
        status = self._batcher.status
        status.since = time.perf_counter()
        try:
            return self._timed(parts)
        finally:
            status.since = None

    def _timed(self, parts: Sequence[Array]) -> tuple[list[Arrays | Exception], float, float]:
        """What the run gives or raises for each part, and when it started and ended."""
        started = time.perf_counter()
        outcomes = _outcomes(self._run, parts) if parts else []
        return outcomes, started, time.perf_counter()

    def _watch(self, waiting: _Waiting) -> None:
        left = waiting.job.deadline - time.perf_counter()
        if waiting.timer is None and left < float("inf"):
            waiting.timer = self._loop.call_later(max(0.0, left), waiting.expire)

    def _answer(self, batch: list[_Waiting], outcomes: list[Arrays | Exception], started: float, ended: float) -> None:
        failure: Exception | None = None
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.job.queue += started - waiting.queued
            waiting.job.compute += ended - started
            if waiting.timer is not None:
                waiting.timer.cancel()
            if isinstance(outcome, Exception):
                failure = outcome
            if waiting.answer.done():  # expired, or cut off by the end of the process
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            elif ended >= waiting.job.deadline:
                waiting.expire()
            else:
                waiting.answer.set_result(outcome)
        # An engine that answered one of them works; whether it does after failing all of them, only another run tells.
        works = any(not isinstance(outcome, Exception) for outcome in outcomes)
        if works or failure is not None:
            self._batcher.status.failure = None if works else failure


def _outcomes(run: Run, parts: Sequence[Array]) -> list[Arrays | Exception]:
    """What a run gives or raises for each part: all in one run, or, where that fails, in halves of it."""
    try:
        arrays = run(parts[0] if len(parts) == 1 else np.concatenate(parts))
    except Exception as error:  # whatever it is, it belongs to those whose rows it was
        if len(parts) == 1:
            return [error]
        middle = len(parts) // 2
        return _outcomes(run, parts[:middle]) + _outcomes(run, parts[middle:])
    if len(parts) == 1:
        return [arrays]
    outcomes: list[Arrays | Exception] = []
    first = 0
    for part in parts:
        last = first + len(part)
        outcomes.append(tuple([array[first:last] for array in arrays]))
        first = last
    return outcomes
