"""The parts of the application, for every request: `scope["state"]["app_state"]`, or `request.state.app_state`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from service.api.context import RequestContext
from service.api.head_cache import HeadCache
from service.api.keys import Keys
from service.api.open_inference.statistics import Statistics
from service.errors import DeadlineExceeded
from service.inference.admission import Admission
from service.inference.health import Health
from service.inference.registry import Registry
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.observer import Observer

Done = TypeVar("Done")

# How many groups of all streams together are worked on at a time. The others wait in their order.
STREAM_GROUPS: Final = 8

_LATE: Final = "late"  # the message of a cancellation by the deadline; the server's have another


@dataclass(frozen=True, slots=True)
class AppState:
    """The parts that endpoints use. `codec` has the threads that decode and encode pictures."""

    settings: Settings
    registry: Registry
    admission: Admission
    keys: Keys
    codec: Executor
    health: Health
    metrics: Metrics
    observer: Observer
    statistics: Statistics
    head_cache: HeadCache = field(default_factory=HeadCache)
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STREAM_GROUPS))

    async def run_in_thread(self, request: RequestContext, work: Callable[..., Done], *arguments: object) -> Done:
        """Run work that can take milliseconds in a thread, so that other requests and the probes do not wait for it.

        Raises what the work raises. Raises DeadlineExceeded as soon as the request's deadline passes, even while the
        work still runs; and ClientGone or DeadlineExceeded, without starting the work, when nobody waits for it any
        more. What the request has reserved stays so until the work ends.
        """

        def if_wanted() -> Done:
            request.check()
            with request.reservation.in_thread():
                return work(*arguments)

        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self.codec, if_wanted)
        left = request.deadline - time.perf_counter()
        timer = loop.call_later(left, running.cancel, _LATE) if left < math.inf else None
        try:
            return await running
        except asyncio.CancelledError as error:
            if _LATE in error.args:
                raise DeadlineExceeded from None
            raise
        finally:
            if timer is not None:
                timer.cancel()
            # An exception of the work refers to this frame by its traceback. If this frame referred to the exception,
            # that cycle would keep the request's body in memory until the garbage collector runs.
            del running
