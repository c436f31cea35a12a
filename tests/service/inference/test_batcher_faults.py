"""What fails in a batch, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.errors import Fault, InvalidInput
from service.inference.batcher import Batcher
from service.inference.engine import Floats, Images
from service.inference.job import Job

from .fake_engine import GUILTY, FakeEngine, Queues, rows


@pytest.mark.parametrize("inline_rows", [8, 0], ids=["on the loop", "off the loop"])
@pytest.mark.parametrize("guilty", [(2,), (0, 5), (1, 2, 3)])
def test_only_the_guilty_requests_of_a_batch_fail(
    engine: FakeEngine, run: Callable[..., Any], guilty: tuple[int, ...], inline_rows: int
) -> None:
    async def scenario(queues: Queues) -> Any:
        values = [GUILTY if number in guilty else number for number in range(6)]
        return await asyncio.gather(*(queues.encode(rows(1, value), Job()) for value in values), return_exceptions=True)

    answers = run(scenario, inline_rows=inline_rows)
    assert engine.batches[0] == 6
    for number, answer in enumerate(answers):
        if number in guilty:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer[0][0, 0] == number


def test_an_engine_with_one_success_in_a_batch_is_not_failing(engine: FakeEngine) -> None:
    batcher = Batcher("fake", max_rows=8, inline_rows=8)
    queue = batcher.queue("encode", engine.encode)

    async def ask(*values: int) -> Exception | None:
        await asyncio.gather(*(queue.submit(rows(1, value), Job()) for value in values), return_exceptions=True)
        return batcher.status.failure

    assert asyncio.run(ask(1, GUILTY)) is None
    assert isinstance(asyncio.run(ask(GUILTY)), ArithmeticError)
    assert asyncio.run(ask(2)) is None
    batcher.close()


@pytest.mark.parametrize("inline_rows", [8, 0], ids=["on the loop", "off the loop"])
def test_a_count_that_fails_is_logged_once_and_costs_no_answer(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, inline_rows: int
) -> None:
    def count(*_: object) -> None:
        raise MemoryError("no room to count")

    batcher = Batcher("fake", max_rows=8, inline_rows=inline_rows, count=count)
    queue = batcher.queue("encode", engine.encode)

    async def scenario() -> list[float]:
        return [(await asyncio.wait_for(queue.submit(rows(1, value), Job()), 60))[0][0, 0] for value in (1, 2, 3)]

    assert asyncio.run(scenario()) == [1, 2, 3]
    assert caplog.messages == ["A run could not be counted."]
    batcher.close()


def test_a_run_that_gives_nothing_does_not_leave_the_queue_busy() -> None:
    given: list[tuple[Floats, ...] | None] = [None, None, None, (np.ones((1, 1), np.float32),)]
    batcher = Batcher("fake", max_rows=8, inline_rows=8)
    queue = batcher.queue("encode", lambda _: given.pop(0))  # type: ignore[arg-type, return-value]

    async def scenario() -> Any:
        both = await asyncio.gather(*(queue.submit(rows(1), Job()) for _ in range(2)), return_exceptions=True)
        return both, await asyncio.wait_for(queue.submit(rows(1), Job()), 60)

    nothing, (last,) = asyncio.run(scenario())
    assert nothing == [None, None]
    assert last == 1
    batcher.close()


def test_a_queue_without_a_thread_fails_its_requests_and_is_not_busy(engine: FakeEngine) -> None:
    batcher = Batcher("fake", max_rows=8, inline_rows=1)
    queue = batcher.queue("encode", engine.encode)
    batcher.close()

    async def scenario() -> Any:
        failed = await asyncio.gather(queue.submit(rows(2), Job()), return_exceptions=True)
        return failed, await asyncio.wait_for(queue.submit(rows(1, 4), Job()), 60)

    (failed,), (mu, _) = asyncio.run(scenario())
    assert isinstance(failed, RuntimeError)
    assert mu[0, 0] == 4


def test_a_request_that_is_itself_at_fault_says_nothing_against_the_engine(engine: FakeEngine) -> None:
    batcher = Batcher("fake", max_rows=8, inline_rows=8)
    fault = InvalidInput([Fault(("z", 0), "too much")])

    def run(images: Images) -> tuple[Images]:
        if (images == GUILTY).any():
            raise fault
        return (images,)

    queue = batcher.queue("decode", run)

    async def ask(*values: int) -> list[Any]:
        return await asyncio.gather(*(queue.submit(rows(1, value), Job()) for value in values), return_exceptions=True)

    assert asyncio.run(ask(1, GUILTY, 2))[1] is fault
    assert asyncio.run(ask(GUILTY)) == [fault]
    assert batcher.status.failure is None
