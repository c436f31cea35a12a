"""What inference knows of a request: how long it is worth working on, and how long that took."""

from __future__ import annotations

import math
import time

from service.errors import ClientGone, DeadlineExceeded


class Job:
    """A request's deadline and its time in the engine.

    `deadline` is a reading of time.perf_counter. `gone` says that the client has closed its connection. `queue` and
    `compute` are seconds, summed over all runs of the request: waiting for the engine, and being in it.
    """

    __slots__ = ("compute", "deadline", "gone", "queue")

    def __init__(self) -> None:
        """A new job has no deadline."""
        self.deadline = math.inf
        self.gone = False
        self.queue = self.compute = 0.0

    def check(self) -> None:
        """Raise ClientGone or DeadlineExceeded when nobody would get the result."""
        if self.gone:
            raise ClientGone
        if time.perf_counter() >= self.deadline:
            raise DeadlineExceeded
