"""The short form of `make soak`: what is answered, and not how fast."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Callable

from harness.connection import Connection
from harness.servers import Server
from tests.soak import mixed, overload
from tests.soak.truth import Truth, same


def test_no_answer_is_wrong_in_mixed_traffic_with_bad_requests_among_it(serve: Callable[..., Server]) -> None:
    server = serve(default_model="mnist-mlp@1", deadline_ms=600_000)
    report = asyncio.run(mixed.run(server.url, server.process.pid, requests=100, most=256, seed=3))
    assert report.wrong == []
    assert report.answers == 100 * mixed.CLIENTS
    assert report.bad > 0


def test_of_more_requests_than_there_is_room_for_some_are_answered_right_and_the_rest_refused(
    serve: Callable[..., Server],
) -> None:
    server = serve(default_model="mnist-mlp@1", queue=4 * overload.IMAGES, deadline_ms=600_000)
    truth = Truth()
    request = overload.request(server.port, 600_000)
    statuses: Counter[int] = Counter()
    for _ in range(10):
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(Connection(server.port)) for _ in range(100)]
            # While the server stands still, everything arrives; when it goes on, it finds all of it at once.
            server.process.send_signal(signal.SIGSTOP)
            for connection in connections:
                connection.send(request)
            server.process.send_signal(signal.SIGCONT)
            for connection in connections:
                answer = connection.answer()
                assert answer is not None
                statuses[answer.status] += 1
                if answer.status == 200:
                    assert same(answer.json["mu"], truth.mu[: overload.IMAGES])
                else:
                    assert answer.headers["retry-after"] == "1"
    assert set(statuses) == {200, 503}


def test_twice_the_capacity_is_answered_refused_or_expired_and_nothing_else(serve: Callable[..., Server]) -> None:
    server = serve(default_model="mnist-mlp@1", queue=1024)
    assert overload.measure(server.port, 1).other == 0
