"""The short form of `make soak`: seconds instead of half an hour, and no judgement of speed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.servers import Server
from tests.soak import mixed, overload


def test_no_answer_is_wrong_in_mixed_traffic_with_bad_requests_among_it(serve: Callable[..., Server]) -> None:
    server = serve(default_model="mnist-mlp@1")
    report = asyncio.run(mixed.run(server.url, server.process.pid, 8, most=256, seed=3))
    assert report.wrong == []
    assert report.answers > 100
    assert report.bad > 0


def test_twice_the_capacity_is_answered_or_refused_and_nothing_else(serve: Callable[..., Server]) -> None:
    server = serve(default_model="mnist-mlp@1", queue=1024)
    found = overload.measure(server.port, 4)
    assert found.other == 0
    assert found.refused > 0
    assert found.goodput > 0
    assert found.p99 < overload.DEADLINE_MS
