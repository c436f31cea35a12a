"""What the lifespan hands to every request: `scope["state"]["rooms"]`, or `request.state.rooms`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from service.api.heads import Heads
from service.api.keys import Keys
from service.errors import DeadlineExceeded
from service.inference.admission import Admission, Ticket
from service.inference.health import Health
from service.inference.registry import Registry
from service.settings import Settings
from service.telemetry.logs import RequestLog
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

Done = TypeVar("Done")

_LATE: Final = "late"  # what tells our own cancelling from the server's


@dataclass(frozen=True, slots=True)
class Rooms:
    """The parts that endpoints use.

    `codec` runs the decoding and encoding of pictures off the event loop.
    """

    settings: Settings
    registry: Registry
    admission: Admission
    keys: Keys
    codec: Executor
    health: Health
    metrics: Metrics
    request_log: RequestLog | None
    tracing: Tracing | None
    heads: Heads = field(default_factory=Heads)

    async def off_loop(self, ticket: Ticket, work: Callable[..., Done], *arguments: object) -> Done:
        """Run work that may take milliseconds where it does not keep other requests and the probes waiting.

        Raises what the work raises; DeadlineExceeded as soon as the ticket's deadline passes, even if the work is still
        going on; and ClientGone or DeadlineExceeded, without beginning the work, when nobody waits for it by its turn.
        """

        def unless_in_vain() -> Done:
            ticket.check()
            return work(*arguments)

        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self.codec, unless_in_vain)
        left = ticket.deadline - time.perf_counter()
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
            # What the work raised knows this frame by its traceback, and would keep itself and the request's body alive
            # until the garbage collector looks.
            del running
