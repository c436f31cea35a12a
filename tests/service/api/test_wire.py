from __future__ import annotations

import asyncio
import gc
from typing import Any
from unittest.mock import MagicMock

import httpx2 as httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from harness.connection import Connection
from harness.digits import digits, encoded
from harness.servers import wait_for
from service.api.fast_path import FAST_PATH_BYTES
from service.api.requests import Body
from service.api.wire import Protocol
from service.images.codec import npy_bytes
from service.settings import Settings
from tests.service.api.in_bytes import BODY, DIGIT, answer, ended, path_of, post


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/encode", {"json": DIGIT}),
        ("/encode", {"json": {**DIGIT, "sample": True, "seed": 7}}),
        ("/encode", {"json": DIGIT, "headers": {"Accept": "application/x-npy"}}),
        ("/encode?preprocess=none", {"content": encoded(digits()[1]), "headers": {"Content-Type": "image/png"}}),
        ("/encode", {"content": npy_bytes(digits()[:3]), "headers": {"Content-Type": "application/x-npy"}}),
        ("/encode", {"files": [("images", encoded(digits()[2])), ("images", encoded(digits()[3]))]}),
        ("/reconstruct", {"json": DIGIT}),
        ("/reconstruct", {"json": DIGIT, "headers": {"Accept": "image/png"}}),
        ("/score", {"json": DIGIT}),
        ("/score?k=70&seed=2", {"json": DIGIT}),
        ("/score", {"json": {**DIGIT, "k": 2000}}),
        ("/sample", {"json": {"n": 3, "seed": 5}}),
        ("/sample", {"json": {"n": 3, "seed": 5}, "headers": {"Accept": "application/octet-stream"}}),
        ("/decode", {"json": {"z": [[0.5] * 20]}}),
        ("/interpolate", {"json": {"z": [[0.5] * 20, [1.0] * 20], "path": "spherical"}}),
        ("/interpolate", {"json": {"images": [*DIGIT["images"]] * 9}, "headers": {"Accept": "image/png"}}),
        ("/interpolate", {"files": [("images", encoded(digits()[2])), ("images", encoded(digits()[3]))]}),
        ("/interpolate", {"json": {"z": [[0.5] * 20, [1.0] * 20], "steps": 5000}}),
        ("/traverse", {"json": DIGIT}),
        ("/traverse?dims=3,1", {"content": encoded(digits()[1]), "headers": {"Content-Type": "image/png"}}),
        ("/traverse", {"json": {"z": [[0.5] * 20], "dims": [99]}}),
        ("/encode", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("/encode", {"json": {"images": ["not base64"]}}),
        ("/encode", {"json": DIGIT, "headers": {"Accept": "text/html"}}),
        ("/encode", {"content": b"hello", "headers": {"Content-Type": "text/plain"}}),
        ("/encode?nonsense=1", {"json": DIGIT}),
        ("/sample", {"json": {"model": "nobody"}}),
        ("/sample", {"json": {"n": 2000}}),
    ],
)
def test_the_fast_path_gives_the_same_answers_as_asgi(
    port: int, client: TestClient, path: str, sent: dict[str, Any]
) -> None:
    sent = {**sent, "headers": {**sent.get("headers", {}), "X-Request-ID": "the-same"}}
    here, there = httpx.post(f"http://127.0.0.1:{port}{path}", **sent), client.post(path, **sent)
    assert path_of(dict(here.headers)) == "fast"
    assert (here.status_code, here.content) == (there.status_code, there.content)
    varying = ("date", "server-timing")
    assert [item for item in here.headers.items() if item[0] not in varying] == [
        item for item in there.headers.items() if item[0] not in varying
    ]
    assert "server-timing" in here.headers


@pytest.mark.parametrize(
    "uncommon",
    [
        post(Expect="100-continue"),
        post(version="1.0"),
        post(path="/%65ncode"),
        post(body=b" " * FAST_PATH_BYTES + BODY),
        post(body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), length=False, Transfer_Encoding="chunked"),
    ],
    ids=["expects to be asked for its body", "HTTP/1.0", "escaped path", "long body", "chunked"],
)
def test_an_uncommon_request_goes_through_asgi_and_gets_the_same_answer(port: int, uncommon: bytes) -> None:
    with Connection(port) as connection:
        connection.send(uncommon)
        status, headers, body = answer(connection)
    assert (status, path_of(headers)) == (200, "asgi")
    with Connection(port) as connection:
        connection.send(post())
        status, headers, common = answer(connection)
    assert (status, path_of(headers)) == (200, "fast")
    assert body == common


class TestCachedHeads:
    """A head that has come before is not parsed again. The answers are the same."""

    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """The paths of the requests that went through the parser."""
        paths = []
        parse = Protocol.on_headers_complete

        def on_headers_complete(protocol: Protocol) -> None:
            paths.append(protocol.url)
            parse(protocol)

        monkeypatch.setattr(Protocol, "on_headers_complete", on_headers_complete)
        return paths

    def test_it_is_parsed_once_for_all_connections(self, port: int, parsed: list[bytes]) -> None:
        path = "/encode?preprocess=none"
        pictures = [picture for picture in map(encoded, digits()) if len(picture) == len(encoded(digits()[0]))]
        assert len(pictures) > 1
        answers = []
        for _ in range(2):
            with Connection(port) as connection:
                for picture in pictures:
                    connection.send(post(path, picture, Once="here").replace(b"application/json", b"image/png"))
                    status, headers, body = answer(connection)
                    assert (status, path_of(headers)) == (200, "fast")
                    answers.append((headers["x-request-id"], body))
        assert parsed == [path.encode()]
        assert len({body for _, body in answers}) == len(pictures)
        assert len({request_id for request_id, _ in answers}) == len(answers)

    def test_in_pieces_or_pipelined_it_is_parsed(self, port: int, parsed: list[bytes]) -> None:
        data = post(Once="in pieces")
        with Connection(port) as connection:
            for pieces in ([data], [data[:50], data[50:]], [data * 2], [data + data[:90], data[90:]], [data]):
                for piece in pieces:
                    connection.send(piece)
                for _ in range(b"".join(pieces).count(b"POST")):
                    assert answer(connection)[0] == 200
        assert len(parsed) == 1 + 1 + 2 + 2

    def test_a_bad_query_or_header_is_refused_each_time(self, port: int) -> None:
        with Connection(port) as connection:
            for wrong in (post("/encode?nonsense=1"), post(Accept="text/html"), post(X_Request_Timeout_Ms="soon")):
                statuses = set()
                for _ in range(3):
                    connection.send(wrong)
                    statuses.add(answer(connection)[0])
                assert len(statuses) == 1
                assert min(statuses) >= 400


def test_get_of_a_verb_is_405(port: int) -> None:
    page = httpx.get(f"http://127.0.0.1:{port}/encode")
    assert (page.status_code, path_of(dict(page.headers))) == (405, "asgi")


def test_a_request_can_arrive_byte_by_byte(port: int) -> None:
    with Connection(port) as connection:
        for byte in post():
            connection.send(bytes([byte]))
        status, headers, _ = answer(connection)
    assert (status, path_of(headers)) == (200, "fast")


def test_requests_of_one_connection_can_take_either_path(port: int) -> None:
    with Connection(port) as connection:
        paths = []
        for data in (
            post(),
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            post(),
            post(path="/sample", body=b"{}"),
        ):
            connection.send(data)
            status, headers, _ = answer(connection)
            paths.append((status, path_of(headers)))
    assert paths == [(200, "fast"), (200, "asgi"), (200, "fast"), (200, "fast")]


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    ids = [f"request-{number}" for number in range(20)]
    with Connection(port) as connection:
        connection.send(b"".join(post(path="/sample", body=b'{"n": 1}', X_Request_ID=name) for name in ids))
        answers = [answer(connection) for _ in ids]
    assert [status for status, _, _ in answers] == [200] * 20
    assert [headers["x-request-id"] for _, headers, _ in answers] == ids


def test_connection_close_closes_the_connection(port: int) -> None:
    with Connection(port) as connection:
        connection.send(post(Connection="close"))
        status, headers, _ = answer(connection)
        assert (status, headers["connection"], path_of(headers)) == (200, "close", "fast")
        assert ended(connection)


def test_clients_that_leave_at_any_point_do_no_harm(port: int) -> None:
    whole = post()
    for length in (10, len(whole) - 100, len(whole)):
        for _ in range(5):
            with Connection(port) as connection:
                connection.send(whole[:length])
    with Connection(port) as connection:
        connection.send(whole)
        assert answer(connection)[0] == 200


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (BODY, 200),
        (b"{", 400),
        (b'{"images": ["%b"]}' % (b"A" * 20_000), 422),  # refused by a thread that reads long bodies
        (b'{"images": ["%b"], "model": "%b"}' % (DIGIT["images"][0].encode(), b"m" * 20_000), 422),
    ],
    ids=["answered", "no JSON", "no picture", "no such model"],
)
def test_a_body_is_freed_without_the_garbage_collector(port: int, path: str, body: bytes, status: int) -> None:
    gc.collect()
    gc.disable()
    others = bodies()  # of other tests
    try:
        with Connection(port) as connection:
            connection.send(post(path, body))
            assert answer(connection)[0] == status
        wait_for(lambda: all(any(body is other for other in others) for body in bodies()))
    finally:
        gc.enable()


def bodies() -> list[Body]:
    """Every body that is in memory."""
    return [thing for thing in gc.get_objects() if isinstance(thing, Body)]


def test_requests_wait_while_the_client_does_not_read_its_answers() -> None:
    answered = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        answered.append("through ASGI")

    async def exchange() -> None:
        transport = MagicMock(asyncio.Transport)
        transport.is_closing.return_value = False
        state = MagicMock(settings=Settings(), health=MagicMock(draining=False))
        protocol = Protocol(uvicorn.Config(app, lifespan="off"), ServerState(), {"app_state": state})
        protocol.connection_made(transport)
        protocol.pause_writing()  # as the transport does when too much of an answer is unsent
        protocol.data_received(post())
        await asyncio.sleep(0)
        assert not answered
        protocol.resume_writing()
        await asyncio.gather(*protocol.tasks)
        protocol.connection_lost(None)

    asyncio.run(exchange())
    assert answered == ["through ASGI"]
