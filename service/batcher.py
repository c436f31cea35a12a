"""Between the application and the engine: runs an engine's graphs off the event loop, one run at a time.

One run at a time, because an engine's sessions share the machine's cores: two at once would only take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from service.engine import Floats, Images

Answer = TypeVar("Answer")


class Runs(Protocol):
    """What the batcher needs of an engine; tests put a fake in its place."""

    def encode(self, images: Images) -> tuple[Floats, Floats]: ...  # noqa: D102
    def decode(self, z: Floats) -> Images: ...  # noqa: D102


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds, over all of its runs: waiting for the engine, and in it."""

    queue: float = 0.0
    compute: float = 0.0


class Batcher:
    """The queue in front of one engine."""

    def __init__(self, engine: Runs, name: str) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def encode(self, images: Images, timing: Timing) -> tuple[Floats, Floats]:
        """As `Engine.encode`; adds to `timing`."""
        return await self._run(self._engine.encode, images, timing)

    async def decode(self, z: Floats, timing: Timing) -> Images:
        """As `Engine.decode`; adds to `timing`."""
        return await self._run(self._engine.decode, z, timing)

    def close(self) -> None:
        """Finish what is queued, then let the thread go."""
        self._executor.shutdown()

    async def _run(self, run: Callable[..., Answer], batch: Images | Floats, timing: Timing) -> Answer:
        queued = time.perf_counter()

        def timed() -> Answer:
            started = time.perf_counter()
            timing.queue += started - queued
            try:
                return run(batch)
            finally:
                timing.compute += time.perf_counter() - started

        return await asyncio.get_running_loop().run_in_executor(self._executor, timed)
