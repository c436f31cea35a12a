from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from service.errors import ClientGone, DeadlineExceeded
from service.inference.batcher import Batcher
from service.inference.job import Job
from service.inference.pace import Pace

from .fake_engine import FakeEngine, Queues, rows, until_started


def test_requests_of_one_loop_turn_share_a_batch_and_each_gets_its_own_rows(
    engine: FakeEngine, run: Callable[..., Any]
) -> None:
    async def scenario(queues: Queues) -> Any:
        return await asyncio.gather(*(queues.encode(rows(count, count), Job()) for count in (1, 3, 2)))

    answers = run(scenario)
    assert engine.batches == [6]
    for count, (mu, logvar) in zip((1, 3, 2), answers, strict=True):
        np.testing.assert_array_equal(mu, np.full((count, 1), count))
        np.testing.assert_array_equal(logvar, -mu)


def test_a_single_request_runs_at_once_on_the_loop(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> None:
        for _ in range(3):
            await queues.encode(rows(1), Job())

    run(scenario)
    assert engine.batches == [1, 1, 1]
    assert set(engine.threads) == {threading.get_ident()}


def test_queues_batch_independently(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> Any:
        return await asyncio.gather(
            queues.encode(rows(1, 5), Job()),
            queues.decode(np.full((2, 1), 7, np.float32), Job()),
            queues.encode(rows(2, 6), Job()),
        )

    (mu, _), (decoded,), (other_mu, _) = run(scenario)
    assert engine.batches == [3, 2]
    assert mu[0, 0] == 5
    assert (decoded == 7).all()
    assert other_mu.tolist() == [[6], [6]]


def test_a_large_batch_leaves_the_loop_free_while_the_next_one_collects(
    engine: FakeEngine, run: Callable[..., Any]
) -> None:
    async def scenario(queues: Queues) -> None:
        engine.may_end.clear()
        large = asyncio.ensure_future(queues.encode(rows(5), Job()))
        await until_started(engine)
        others = []
        for _ in range(3):  # requests of three turns become one batch
            others.append(asyncio.ensure_future(queues.encode(rows(1), Job())))
            await asyncio.sleep(0)
        assert engine.batches == [5]
        engine.may_end.set()
        await asyncio.gather(large, *others)

    run(scenario)
    assert engine.batches == [5, 3]
    assert engine.threads[0] != threading.get_ident()


def test_batches_are_bounded_and_in_order(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> Any:
        return await asyncio.gather(*(queues.encode(rows(count, count), Job()) for count in (3, 4, 2, 20, 1, 7)))

    answers = run(scenario)
    assert engine.batches == [7, 2, 20, 8]  # a request with more rows than a batch may have runs alone
    assert [int(mu[0, 0]) for mu, _ in answers] == [3, 4, 2, 20, 1, 7]


def test_max_rows_of_one_switches_batching_off(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> None:
        await asyncio.gather(*(queues.encode(rows(1), Job()) for _ in range(4)))

    run(scenario, max_rows=1)
    assert engine.batches == [1, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 5], ids=["on the loop", "off the loop"])
def test_an_error_of_the_engine_reaches_its_requests_and_the_batcher_goes_on(
    engine: FakeEngine, run: Callable[..., Any], count: int
) -> None:
    async def scenario(queues: Queues) -> Any:
        engine.fails = True
        failed = await asyncio.gather(*(queues.encode(rows(count), Job()) for _ in range(2)), return_exceptions=True)
        engine.fails = False
        return failed, await queues.encode(rows(count, 3), Job())

    failed, (mu, _) = run(scenario)
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2
    assert mu[0, 0] == 3


def test_a_cancelled_request_does_not_affect_the_others(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> Any:
        requests = [asyncio.ensure_future(queues.encode(rows(1, value), Job())) for value in (1, 2, 3)]
        requests[1].cancel()
        return await asyncio.gather(*requests, return_exceptions=True)

    first, gone, third = run(scenario)
    assert isinstance(gone, asyncio.CancelledError)
    assert (first[0][0, 0], third[0][0, 0]) == (1, 3)


def test_waiting_and_computing_are_timed_separately(
    engine: FakeEngine, run: Callable[..., Any], clock: MagicMock
) -> None:
    first, second = Job(), Job()

    async def scenario(queues: Queues) -> None:
        engine.may_end.clear()
        large = asyncio.ensure_future(queues.encode(rows(5), first))
        await until_started(engine)
        clock.return_value = 2.0
        small = asyncio.ensure_future(queues.encode(rows(1), second))
        clock.return_value = 5.0
        engine.may_end.set()
        await asyncio.gather(large, small)

    run(scenario)
    assert (first.queue, first.compute) == (0.0, 5.0)
    assert (second.queue, second.compute) == (3.0, 0.0)


def late() -> Job:
    """A job whose deadline has passed."""
    job = Job()
    job.deadline = time.perf_counter()
    return job


def gone() -> Job:
    """A job whose client has closed its connection."""
    job = Job()
    job.gone = True
    return job


def test_expired_and_abandoned_requests_are_not_run(engine: FakeEngine, run: Callable[..., Any]) -> None:
    async def scenario(queues: Queues) -> Any:
        jobs = (late(), Job(), gone())
        return await asyncio.gather(*(queues.encode(rows(1, 4), job) for job in jobs), return_exceptions=True)

    expired, answered, left = run(scenario)
    assert engine.batches == [1]
    assert isinstance(expired, DeadlineExceeded)
    assert isinstance(left, ClientGone)
    assert answered[0][0, 0] == 4


def test_a_batch_with_no_request_left_is_not_run_and_does_not_stop_the_queue(
    engine: FakeEngine, run: Callable[..., Any]
) -> None:
    async def scenario(queues: Queues) -> Any:
        with pytest.raises(DeadlineExceeded):
            await queues.encode(rows(1), late())
        return await queues.encode(rows(1, 4), Job())

    assert run(scenario)[0][0, 0] == 4
    assert engine.batches == [1]


def test_a_deadline_ends_the_wait_for_a_run_that_does_not_end(
    engine: FakeEngine, run: Callable[..., Any], clock: MagicMock
) -> None:
    async def scenario(queues: Queues) -> Any:
        engine.may_end.clear()
        jobs = [Job() for _ in range(3)]
        for job in jobs[:2]:
            job.deadline = 0.05  # by a clock that stands still: the run begins in time, however busy the machine is
        stuck = asyncio.ensure_future(queues.encode(rows(5), jobs[0]))
        await until_started(engine)
        behind = [asyncio.ensure_future(queues.encode(rows(1), job)) for job in jobs[1:]]
        expired = await asyncio.gather(stuck, behind[0], return_exceptions=True)
        assert not behind[1].done()
        engine.may_end.set()
        await behind[1]
        return expired

    assert [type(error) for error in run(scenario)] == [DeadlineExceeded, DeadlineExceeded]
    assert engine.batches == [5, 1]


def test_a_result_after_the_deadline_is_an_error(engine: FakeEngine, run: Callable[..., Any], clock: MagicMock) -> None:
    async def scenario(queues: Queues) -> None:
        job = Job()
        job.deadline = 1.0
        await queues.encode(rows(1), job)

    def outlast() -> None:
        clock.return_value = 2.0

    engine.meanwhile = outlast
    with pytest.raises(DeadlineExceeded):
        run(scenario)
    assert engine.batches == [1]


def test_requests_that_do_not_fit_into_a_batch_have_a_deadline_too(
    engine: FakeEngine, run: Callable[..., Any], clock: MagicMock
) -> None:
    async def scenario(queues: Queues) -> Any:
        engine.may_end.clear()
        jobs = [Job() for _ in range(3)]
        jobs[1].deadline = 0.05  # by a clock that stands still: only a timer can end the wait
        requests = [asyncio.ensure_future(queues.encode(rows(5), job)) for job in jobs]
        await until_started(engine)
        (expired,) = await asyncio.gather(requests[1], return_exceptions=True)
        assert not requests[0].done()
        engine.may_end.set()
        await asyncio.gather(requests[0], requests[2])
        return expired

    assert isinstance(run(scenario), DeadlineExceeded)
    assert engine.batches == [5, 5]


def test_the_status_shows_a_run_in_the_thread(engine: FakeEngine) -> None:
    batcher = Batcher("fake", max_rows=8, inline_rows=0)
    queue = batcher.queue("encode", engine.encode)
    seen: list[float | None] = [batcher.status.since]

    async def scenario() -> None:
        engine.may_end.clear()
        answer = queue.submit(rows(1), Job())
        await until_started(engine)
        seen.append(batcher.status.since)
        engine.may_end.set()
        await answer

    asyncio.run(scenario())
    seen.append(batcher.status.since)
    assert [since is not None for since in seen] == [False, True, False]
    batcher.close()


def test_a_slow_queue_runs_off_the_loop_and_a_quick_one_beside_it_on_the_loop(engine: FakeEngine) -> None:
    """An encoder that refines its posteriors is slower than its decoder a hundred times."""
    batcher = Batcher("fake", max_rows=8, inline_rows=8)
    encode = batcher.queue("encode", engine.encode, Pace(first=2e-3, further=1e-3))
    decode = batcher.queue("decode", lambda z: (engine.decode(z),), Pace(first=1e-5, further=1e-5))

    async def scenario() -> int:
        await encode.submit(rows(1), Job())
        await decode.submit(np.zeros((8, 1), np.float32), Job())
        return threading.get_ident()

    loop = asyncio.run(scenario())
    assert [thread == loop for thread in engine.threads] == [False, True]
    batcher.close()


def test_requests_share_no_longer_run_than_is_good_for_them(engine: FakeEngine) -> None:
    batcher = Batcher("fake", max_rows=100, inline_rows=100)
    queue = batcher.queue("encode", engine.encode, Pace(first=0.01, further=0.01))  # five rows in 0.05 s

    async def scenario() -> None:
        await asyncio.gather(*(queue.submit(rows(count), Job()) for count in (2, 2, 2, 9, 1)))

    asyncio.run(scenario())
    assert engine.batches == [4, 2, 9, 1]
    batcher.close()


def test_requests_of_a_slow_queue_expire_before_their_own_run(engine: FakeEngine, run: Callable[..., Any]) -> None:
    batcher = Batcher("fake", max_rows=8, inline_rows=8)
    queue = batcher.queue("encode", engine.encode, Pace(first=1.0, further=1.0))

    async def scenario(_: Queues) -> None:
        engine.may_end.clear()
        first = queue.submit(rows(1), Job())
        await until_started(engine)
        hurried = Job()
        hurried.deadline = time.perf_counter() + 1e-3
        with pytest.raises(DeadlineExceeded):
            await queue.submit(rows(1), hurried)
        engine.may_end.set()
        await first

    run(scenario)
    assert engine.batches == [1]
    batcher.close()
