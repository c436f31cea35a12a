"""An engine that is slow, fails and records what it was asked, as a test wants it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np

from service.inference.batcher import Batcher
from service.inference.engine import Floats, Images

GUILTY = 13


def rows(count: int, value: int = 0) -> Images:
    return np.full((count, 2, 2), value, np.uint8)


class FakeEngine:
    """Encodes an image to its first pixel and decodes it back. Records the batches and their threads."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self.started = threading.Event()
        self.batches: list[int] = []
        self.threads: list[int] = []
        self.fails = False
        self.meanwhile: Callable[[], None] = lambda: None

    def encode(self, images: Images) -> tuple[Floats, Floats]:
        self._run(len(images), images)
        mu = images[:, 0, :1].astype(np.float32)
        return mu, -mu

    def decode(self, z: Floats) -> Images:
        self._run(len(z))
        return np.repeat(z.astype(np.uint8), 4, axis=1).reshape(-1, 2, 2)

    def _run(self, count: int, images: Images | None = None) -> None:
        self.batches.append(count)
        self.threads.append(threading.get_ident())
        self.started.set()
        assert self.may_end.wait(60)
        self.meanwhile()
        if self.fails:
            raise ZeroDivisionError
        if images is not None and (images == GUILTY).any():
            raise ArithmeticError("a guilty row")


class Queues:
    """One queue for each graph of the fake engine."""

    def __init__(self, batcher: Batcher, engine: FakeEngine) -> None:
        self.encode = batcher.queue("encode", engine.encode).submit
        self.decode = batcher.queue("decode", lambda z: (engine.decode(z),)).submit


async def until_started(engine: FakeEngine) -> None:
    """Wait for a run off the loop to begin. The loop turns while the engine is busy, or this would never end."""
    async with asyncio.timeout(60):
        while not engine.started.is_set():
            await asyncio.sleep(0)
