from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from service.batcher import Batcher, Timing
from service.engine import Floats, Images

IMAGES = np.zeros((2, 6, 4), np.uint8)
LATENTS = np.zeros((2, 3), np.float32)


class FakeEngine:
    """Answers with zeros, on which thread it notes; holds its answer back until `let_go`."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.let_go.set()
        self.running = 0
        self.most_running = 0
        self.threads: set[int] = set()

    def encode(self, images: Images) -> tuple[Floats, Floats]:
        self._run()
        return LATENTS, LATENTS

    def decode(self, z: Floats) -> Images:
        self._run()
        return IMAGES

    def _run(self) -> None:
        self.threads.add(threading.get_ident())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        assert self.let_go.wait(10)
        self.running -= 1


def test_runs_leave_the_event_loop_free_and_come_one_at_a_time() -> None:
    engine = FakeEngine()
    batcher = Batcher(engine, "fake")

    async def several() -> None:
        engine.let_go.clear()
        runs = [asyncio.ensure_future(batcher.encode(IMAGES, Timing())) for _ in range(4)]
        runs.append(asyncio.ensure_future(batcher.decode(LATENTS, Timing())))  # type: ignore[arg-type]
        await asyncio.sleep(0)  # the loop turns while the engine is busy, or this line would never come
        engine.let_go.set()
        await asyncio.gather(*runs)

    asyncio.run(several())
    batcher.close()
    assert engine.most_running == 1
    assert threading.get_ident() not in engine.threads


def test_waiting_and_computing_are_timed_apart() -> None:
    engine = FakeEngine()
    batcher = Batcher(engine, "fake")
    first, second = Timing(), Timing()

    async def two() -> None:
        engine.let_go.clear()
        runs = asyncio.gather(batcher.encode(IMAGES, first), batcher.encode(IMAGES, second))
        await asyncio.sleep(0.05)  # long enough to be seen on the clock; nothing depends on it being longer
        engine.let_go.set()
        await runs

    asyncio.run(two())
    batcher.close()
    assert first.compute >= 0.04
    assert second.queue >= 0.04
    assert first.queue < first.compute
    assert second.compute < second.queue


def test_what_the_engine_raises_reaches_the_one_who_asked_and_the_batcher_lives_on() -> None:
    class Failing(FakeEngine):
        def encode(self, images: Images) -> tuple[Floats, Floats]:
            raise ZeroDivisionError

    batcher = Batcher(Failing(), "fake")

    async def failing_then_good() -> Images:
        with pytest.raises(ZeroDivisionError):
            await batcher.encode(IMAGES, Timing())
        return await batcher.decode(LATENTS, Timing())

    assert asyncio.run(failing_then_good()) is IMAGES
    batcher.close()
