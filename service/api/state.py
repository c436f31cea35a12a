"""What the lifespan hands to every request: `scope["state"]["rooms"]`, or `request.state.rooms`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from service.registry import Registry
from service.settings import Settings

Done = TypeVar("Done")


@dataclass(slots=True)
class Lifecycle:
    """Where the process is in its life. Draining: it finishes what it has and wants nothing new."""

    draining: bool = False


@dataclass(frozen=True, slots=True)
class Rooms:
    """The parts that endpoints use. `codec` runs the decoding and encoding of pictures off the event loop."""

    settings: Settings
    registry: Registry
    codec: Executor
    lifecycle: Lifecycle

    async def off_loop(self, work: Callable[..., Done], *arguments: object) -> Done:
        """Run work that may take milliseconds where it does not keep other requests and the probes waiting."""
        return await asyncio.get_running_loop().run_in_executor(self.codec, work, *arguments)
