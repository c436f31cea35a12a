"""What the service bounds on a connection: heads, silence, connections, and the time that an answer takes."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.connection import Connection
from harness.digits import encoded
from harness.servers import wait_for
from service.api.fast_path import FAST_PATH_BYTES
from tests.service.api.in_bytes import BODY, answer, ended, post


class TestHeads:
    """What comes before a body, and is no head or too much of one."""

    def test_what_is_not_http_gets_a_problem_and_the_connection_closes(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(b"NONSENSE\r\n\r\n")
            status, headers, body = answer(connection)
            assert (status, headers["content-type"]) == (400, "application/problem+json")
            assert json.loads(body)["detail"] == "This is not HTTP/1.1."
            assert json.loads(body)["request_id"] == headers["x-request-id"]
            assert ended(connection)

    def test_a_head_that_is_too_long_is_refused(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(post(body=b"", X_Long="x" * 40_000))
            status, headers, body = answer(connection)
            assert (status, headers["connection"]) == (431, "close")
            assert json.loads(body)["detail"] == "The request's head is longer than 32768 bytes."

    def test_it_is_refused_as_soon_as_it_is_too_long(self, port: int) -> None:
        head = post(body=b"", X_Long="x" * 40_000)
        with Connection(port) as connection:
            for first in range(0, 32_768, 1024):
                connection.send(head[first : first + 1024])
            connection.send(head[32_768:32_769])
            assert answer(connection)[0] == 431
            assert ended(connection)

    def test_a_long_body_does_not_count_as_a_head(self, port: int) -> None:
        body = BODY.ljust(FAST_PATH_BYTES)
        with Connection(port) as connection:
            for _ in range(3):
                connection.send(post(body=body) + post())
                assert [answer(connection)[0] for _ in range(2)] == [200, 200]


def test_an_idle_connection_is_closed_after_the_keep_alive_time(start_server: Callable[..., int]) -> None:
    port = start_server(keep_alive_seconds=1)
    with contextlib.ExitStack() as stack:
        silent, head, body, long = (stack.enter_context(Connection(port)) for _ in range(4))
        head.send(b"POST /encode HTT")
        body.send(post()[:-1])
        long.send(post(body=BODY.ljust(FAST_PATH_BYTES + 1))[:-1])
        for connection in (silent, head, body, long):
            assert ended(connection)


def test_a_client_that_was_answered_is_left_after_the_keep_alive_time(start_server: Callable[..., int]) -> None:
    port = start_server(keep_alive_seconds=1)

    def answered_and_left() -> bool:
        with Connection(port) as connection:
            connection.send(post())  # on a busy machine the keep-alive time may be over before that
            return [found.status for found in connection.answers()] == [200]

    wait_for(answered_and_left)


def test_requests_on_too_many_connections_get_503(start_server: Callable[..., int]) -> None:
    port = start_server(max_connections=2)
    with contextlib.ExitStack() as stack:
        for expected in (200, 200, 503):
            connection = stack.enter_context(Connection(port))
            connection.send(post())
            assert answer(connection)[0] == expected


class TestDeadlines:
    """X-Request-Timeout-Ms."""

    def test_a_request_within_its_time_is_answered(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(post(X_Request_Timeout_Ms="20000"))
            assert answer(connection)[0] == 200

    @pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1" * 10])
    def test_a_bad_timeout_is_400(self, port: int, value: str) -> None:
        with Connection(port) as connection:
            connection.send(post(X_Request_Timeout_Ms=value))
            status, _, body = answer(connection)
        assert (status, json.loads(body)["detail"]) == (
            400,
            "X-Request-Timeout-Ms must be a number of milliseconds, 1 to 999999999.",
        )

    @pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["the fast path", "through ASGI"])
    def test_a_picture_that_takes_too_long_gets_504(self, port: int, expect: dict[str, Any]) -> None:
        body = json.dumps({"images": [base64.b64encode(encoded(np.zeros((4000, 4000), np.uint8))).decode()]}).encode()
        with Connection(port) as connection:
            connection.send(post(body=body, X_Request_Timeout_Ms="1", **expect))
            assert answer(connection)[0] == 504
