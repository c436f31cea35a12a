"""A client that goes on sending does not lose the answer that closed its connection (RFC 9112, section 9.6)."""

from __future__ import annotations

import json
import select

import pytest

from harness.connection import Connection, request
from harness.servers import Server, wait_for
from service.api.linger import REST_BYTES

MANY = json.dumps({"n": 256, "seed": 1}).encode()
LAST = request("/sample", MANY, "application/json", b"Connection: close")
REFUSED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n"


def is_left(connection: Connection, piece: bytes) -> bool:
    """Whether the server has closed the connection, seen by one piece more that is sent."""
    try:
        connection.socket.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize(
    ("asked", "statuses"), [(LAST, [200]), (REFUSED, [200, 400])], ids=["its own wish", "a refusal"]
)
def test_what_is_sent_after_the_last_answer_costs_no_answer(server: Server, asked: bytes, statuses: list[int]) -> None:
    with Connection(server.port, receive_buffer=4096) as connection:
        connection.send(asked)
        select.select([connection.socket], [], [], 60)  # the answer has begun, and cannot end before it is read
        connection.send(b"x" * 1000)
        answers = connection.answers()
        assert [answer.status for answer in answers] == statuses
        assert [len(answer.body) for answer in answers] == [int(answer.headers["content-length"]) for answer in answers]


def test_a_client_that_never_stops_sending_is_left(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(LAST)
        assert [answer.status for answer in connection.answers()] == [200]
        wait_for(lambda: is_left(connection, b"x" * REST_BYTES))


def test_a_client_that_never_ends_its_side_is_left(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(LAST)
        assert [answer.status for answer in connection.answers()] == [200]
        wait_for(lambda: is_left(connection, b"x"))
