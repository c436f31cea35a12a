"""A batcher in front of a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from service.inference.batcher import Batcher

from .fake_engine import FakeEngine, Queues


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def run(engine: FakeEngine) -> Iterator[Callable[..., Any]]:
    """Run a scenario and return its result. Batches have up to 8 rows; up to 4 rows run on the loop."""
    made: list[Batcher] = []

    def run(scenario: Callable[[Queues], Coroutine[Any, Any, Any]], max_rows: int = 8, inline_rows: int = 4) -> Any:
        made.append(Batcher("fake", max_rows=max_rows, inline_rows=inline_rows))
        return asyncio.run(asyncio.wait_for(scenario(Queues(made[0], engine)), 60))

    yield run
    made[0].close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """What the batcher and the jobs take for the time: `clock.return_value`, which only a test moves on."""
    clock = MagicMock(return_value=0.0)
    monkeypatch.setattr("service.inference.batcher.time", MagicMock(perf_counter=clock))
    return clock
