"""Dynamic batching without a timer: requests that arrive in the same turn of the event loop share one run.

When the engine is idle, the requests of one turn run at once, as one batch. While a batch runs in the thread, the next
batch collects; it starts when the first one ends. No request waits for a timer, so a single client is never slower than
without batching.

Batching pays even for a model that runs in 25 microseconds, because the fixed cost of a run and its cold CPU caches are
shared. Small batches run on the event loop itself: the way to a thread and back would take longer than the run. Larger
ones run in a thread, so that the loop stays free.

Requests share nothing but the run. A batch that fails is run again in halves, until only those requests fail that fail
alone. A request that has expired, or whose client has disconnected, is dropped before it runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import ClientGone, DeadlineExceeded, InvalidInput
from service.inference.job import Job
from service.inference.pace import INLINE_SECONDS, INSTANT, SHARED_SECONDS, Pace

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Run = Callable[[Any], Arrays]


def count_nothing(*_: object) -> None:
    """Count nothing."""


@dataclass(slots=True)
class EngineStatus:
    """What is known about an engine from its runs.

    `failure`: the exception that its last run raised, or None. `lost`: the GPU failed and went on failing, so that only
    a new process can use it. `since`: when the run or self-test in the thread started, by time.perf_counter; None
    while there is none.
    """

    failure: Exception | None = None
    lost: bool = False
    since: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The engine runs, in the thread, until the block ends."""
        self.since = time.perf_counter()
        try:
            yield
        finally:
            self.since = None


class Batcher:
    """The queues of one engine, and its one thread for large batches.

    There is one thread because all runs of an engine use the same CPU cores: two at once would only take turns.
    """

    def __init__(
        self, name: str, *, max_rows: int, inline_rows: int, count: Callable[[str, int], None] = count_nothing
    ) -> None:
        """Batch up to `max_rows` rows of different requests. Run up to `inline_rows` rows on the event loop itself.

        A queue whose runs are slow has lower bounds of its own. With `max_rows` = 1 there is no batching: each request
        has its own run. `count` is called on the event loop for each batch, with the kind of its queue and its number
        of rows.
        """
        self._count = count
        self._counts = True  # no count has failed so far
        self.status = EngineStatus()
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.max_rows = max_rows
        self.inline_rows = inline_rows

    def count(self, kind: str, rows: int) -> None:
        """Count a batch. A count that fails is logged, the first time, and costs no request its answer."""
        try:
            self._count(kind, rows)
        except Exception:
            if self._counts:
                log.exception("A run could not be counted.")
            self._counts = False

    def queue(self, kind: str, run: Run, pace: Pace = INSTANT) -> BatchQueue:
        """A new queue for one kind of run: rows [N, ...] in, arrays of N rows out, each row computed independently.

        `pace` says how long its runs take. Those on the event loop take at most INLINE_SECONDS, and those of several
        requests at most SHARED_SECONDS.
        """
        return BatchQueue(kind, run, self, pace)

    def close(self) -> None:
        """Let the thread go when it has finished what is running; nobody waits for that here."""
        self.executor.shutdown(wait=False)


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
        """Raise DeadlineExceeded to the request. The result of its run, if there is one, is dropped."""
        if not self.answer.done():
            self.answer.set_exception(DeadlineExceeded())


class BatchQueue:
    """A queue of rows for one kind of run."""

    def __init__(self, kind: str, run: Run, batcher: Batcher, pace: Pace) -> None:
        self._loop: asyncio.AbstractEventLoop  # set by the first `submit`
        self._kind = kind
        self._run = run
        self._batcher = batcher
        self._inline_rows = pace.rows_within(INLINE_SECONDS)
        self._max_rows = pace.rows_within(SHARED_SECONDS)  # a batch has one request at least, however many rows it has
        self._waiting: list[_Waiting] = []
        self._busy = False  # a batch is planned, or runs in the thread
        self._off_loop = False  # a batch runs in the thread

    def submit(self, rows: Array, job: Job) -> asyncio.Future[Arrays]:
        """Queue rows [N, ...]. The result is the arrays of the run, N rows each.

        It raises what the run raises for these rows, DeadlineExceeded or ClientGone.
        """
        if not self._busy:
            self._loop = asyncio.get_running_loop()  # once a batch: this call asks the kernel for the process id
        waiting = _Waiting(rows, job, self._loop.create_future())
        self._waiting.append(waiting)
        if self._off_loop:  # otherwise it runs within one turn of the loop, which checks the deadline
            self._start_timer(waiting)
        elif not self._busy:
            self._busy = True
            if self._batcher.max_rows == 1:
                self._flush()
            else:
                self._loop.call_soon(self._wait_one_turn)
        return waiting.answer

    def _wait_one_turn(self) -> None:
        """Let the loop read its connections once more, so that requests which have just arrived join the batch."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch = self._next_batch()
        parts = [waiting.rows for waiting in batch]
        rows = sum(map(len, parts))
        if rows:
            self._batcher.count(self._kind, rows)
        if rows <= self._inline_rows and rows <= self._batcher.inline_rows:
            self._answer(batch, *self._run_and_time(parts))
            self._continue()
            return
        for waiting in (*batch, *self._waiting):  # those that did not fit in wait for the end of this run
            self._start_timer(waiting)
        try:
            running = self._loop.run_in_executor(self._batcher.executor, self._run_off_loop, parts)
        except RuntimeError as error:  # there is no thread to be had
            now = time.perf_counter()
            self._answer(batch, [error] * len(batch), now, now)
            self._continue()
        else:
            self._off_loop = True
            running.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[_Waiting], done: asyncio.Future[tuple[list[Arrays | Exception], float, float]]) -> None:
        self._off_loop = False
        self._answer(batch, *done.result())
        self._continue()

    def _continue(self) -> None:
        if self._waiting:
            self._loop.call_soon(self._flush)
        else:
            self._busy = False

    def _next_batch(self) -> list[_Waiting]:
        """The next batch: as many requests, in order, as fit into the most rows, and at least one if there is any.

        Requests that have expired, or whose client has disconnected, leave the queue without a run.
        """
        now = time.perf_counter()
        batch: list[_Waiting] = []
        rows, most = 0, min(self._max_rows, self._batcher.max_rows)
        for count, waiting in enumerate(self._waiting):
            if waiting.answer.done():
                continue
            job = waiting.job
            if job.gone or now >= job.deadline:
                waiting.answer.set_exception(ClientGone() if job.gone else DeadlineExceeded())
                continue
            rows += len(waiting.rows)
            if batch and rows > most:
                del self._waiting[:count]
                return batch
            batch.append(waiting)
        self._waiting = []
        return batch

    def _run_off_loop(self, parts: Sequence[Array]) -> tuple[list[Arrays | Exception], float, float]:
        with self._batcher.status.running():
            return self._run_and_time(parts)

    def _run_and_time(self, parts: Sequence[Array]) -> tuple[list[Arrays | Exception], float, float]:
        """What the run returns or raises for each part, and when it started and ended."""
        started = time.perf_counter()
        outcomes = _outcomes(self._run, parts) if parts else []
        return outcomes, started, time.perf_counter()

    def _start_timer(self, waiting: _Waiting) -> None:
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
            if isinstance(outcome, Exception) and not isinstance(outcome, InvalidInput):
                failure = outcome
            if waiting.answer.done():  # expired, or cancelled when the process ends
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            elif ended >= waiting.job.deadline:
                waiting.expire()
            else:
                waiting.answer.set_result(outcome)
        # If one request succeeded, or is itself at fault, the engine works. If all failed, only another run can tell.
        works = any(isinstance(outcome, InvalidInput) or not isinstance(outcome, Exception) for outcome in outcomes)
        if works or failure is not None:
            self._batcher.status.failure = None if works else failure


def _outcomes(run: Run, parts: Sequence[Array]) -> list[Arrays | Exception]:
    """What a run returns or raises for each part: all in one run, or in halves if that run fails."""
    try:
        arrays = run(parts[0] if len(parts) == 1 else np.concatenate(parts))
        if len(parts) == 1:
            return [arrays]
        outcomes: list[Arrays | Exception] = []
        first = 0
        for part in parts:
            last = first + len(part)
            outcomes.append(tuple([array[first:last] for array in arrays]))
            first = last
    except Exception as error:  # any exception is the result of the requests in this run
        if len(parts) == 1:
            return [error]
        middle = len(parts) // 2
        return _outcomes(run, parts[:middle]) + _outcomes(run, parts[middle:])
    return outcomes
