from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import httpx2 as httpx
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from service.__main__ import configuration
from service.api.head_cache import HeadCache
from service.api.requests import Body
from service.api.wire import FAST_PATH_BYTES, Protocol
from service.app import create_app
from service.images.codec import npy_bytes
from service.settings import Settings
from tests.connection import Connection
from tests.digits import base64_png, digits, encoded

DIGIT = {"images": [base64_png(digits()[0])], "preprocess": "none"}
BODY = json.dumps(DIGIT).encode()


class LongWay:
    """An application whose answers say that they came through ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-way", b"long")]
            await send(message)

        await self.app(scope, receive, marked)


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[int]:
    """The port of a real server, in a thread of this process, with the shipped models."""
    options = Settings(models_dir=Path(__file__).parents[3] / "models", **settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(configuration(options, LongWay(create_app(options))))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server with default settings."""
    with running() as port:
        yield port


@pytest.fixture
def start_server() -> Iterator[Callable[..., int]]:
    """Start servers with settings of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))


def post(
    path: str = "/encode",
    body: bytes = BODY,
    *,
    version: str = "1.1",
    length: bool = True,
    **headers: str,
) -> bytes:
    """A request's bytes."""
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    """The next answer: status, headers, body."""
    found = connection.answer()
    assert found is not None, "closed without an answer"
    return found.status, found.headers, found.body


def ended(connection: Connection) -> bool:
    """Whether the server has closed its end; waits for an answer or the close."""
    return connection.answer() is None


def way(headers: dict[str, str]) -> str:
    return headers.get("x-way", "short")


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
        ("/sample", {"json": {"n": 3, "seed": 5}}),
        ("/sample", {"json": {"n": 3, "seed": 5}, "headers": {"Accept": "application/octet-stream"}}),
        ("/decode", {"json": {"z": [[0.5] * 20]}}),
        ("/encode", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("/encode", {"json": {"images": ["not base64"]}}),
        ("/encode", {"json": DIGIT, "headers": {"Accept": "text/html"}}),
        ("/encode", {"content": b"hello", "headers": {"Content-Type": "text/plain"}}),
        ("/encode?nonsense=1", {"json": DIGIT}),
        ("/sample", {"json": {"model": "nobody"}}),
        ("/sample", {"json": {"n": 2000}}),
    ],
)
def test_the_short_way_answers_what_asgi_answers(
    port: int, client: TestClient, path: str, sent: dict[str, Any]
) -> None:
    sent = {**sent, "headers": {**sent.get("headers", {}), "X-Request-ID": "the-same"}}
    here, there = httpx.post(f"http://127.0.0.1:{port}{path}", **sent), client.post(path, **sent)
    assert way(dict(here.headers)) == "short"
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
    ids=["expects to be asked for its body", "HTTP/1.0", "escaped path", "long", "chunked"],
)
def test_an_uncommon_request_is_answered_by_the_same_verb_through_asgi(port: int, uncommon: bytes) -> None:
    with Connection(port) as connection:
        connection.send(uncommon)
        status, headers, body = answer(connection)
    assert (status, way(headers)) == (200, "long")
    with Connection(port) as connection:
        connection.send(post())
        status, headers, common = answer(connection)
    assert (status, way(headers)) == (200, "short")
    assert body == common


class TestTheSameHeadAgain:
    """A head that came before is not parsed again, and nobody can tell."""

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

    def test_on_one_connection_and_on_another(self, port: int, parsed: list[bytes]) -> None:
        path = "/encode?preprocess=none"
        pictures = [picture for picture in map(encoded, digits()) if len(picture) == len(encoded(digits()[0]))]
        assert len(pictures) > 1
        answers = []
        for _ in range(2):
            with Connection(port) as connection:
                for picture in pictures:
                    connection.send(post(path, picture, Once="here").replace(b"application/json", b"image/png"))
                    status, headers, body = answer(connection)
                    assert (status, way(headers)) == (200, "short")
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

    def test_a_query_or_a_header_that_is_wrong_is_wrong_each_time(self, port: int) -> None:
        with Connection(port) as connection:
            for wrong in (post("/encode?nonsense=1"), post(Accept="text/html"), post(X_Request_Timeout_Ms="soon")):
                statuses = set()
                for _ in range(3):
                    connection.send(wrong)
                    statuses.add(answer(connection)[0])
                assert len(statuses) == 1
                assert min(statuses) >= 400


def test_a_get_of_a_verb_is_refused_by_fastapi(port: int) -> None:
    page = httpx.get(f"http://127.0.0.1:{port}/encode")
    assert (page.status_code, way(dict(page.headers))) == (405, "long")


def test_a_request_may_arrive_byte_by_byte(port: int) -> None:
    with Connection(port) as connection:
        for byte in post():
            connection.send(bytes([byte]))
        status, headers, _ = answer(connection)
    assert (status, way(headers)) == (200, "short")


def test_a_connection_serves_one_request_after_another_on_either_way(port: int) -> None:
    with Connection(port) as connection:
        ways = []
        for data in (
            post(),
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            post(),
            post(path="/sample", body=b"{}"),
        ):
            connection.send(data)
            status, headers, _ = answer(connection)
            ways.append((status, way(headers)))
    assert ways == [(200, "short"), (200, "long"), (200, "short"), (200, "short")]


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    ids = [f"request-{number}" for number in range(20)]
    with Connection(port) as connection:
        connection.send(b"".join(post(path="/sample", body=b'{"n": 1}', X_Request_ID=name) for name in ids))
        answers = [answer(connection) for _ in ids]
    assert [status for status, _, _ in answers] == [200] * 20
    assert [headers["x-request-id"] for _, headers, _ in answers] == ids


def test_a_client_that_asks_for_it_finds_its_connection_closed(port: int) -> None:
    with Connection(port) as connection:
        connection.send(post(Connection="close"))
        status, headers, _ = answer(connection)
        assert (status, headers["connection"], way(headers)) == (200, "close", "short")
        assert ended(connection)


def test_clients_that_leave_at_any_point_leave_the_service_well(port: int) -> None:
    whole = post()
    for length in (10, len(whole) - 100, len(whole)):
        for _ in range(5):
            with Connection(port) as connection:
                connection.send(whole[:length])
    with Connection(port) as connection:
        connection.send(whole)
        assert answer(connection)[0] == 200


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["short", "long"])
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
def test_a_body_is_let_go_without_the_garbage_collector(port: int, path: str, body: bytes, status: int) -> None:
    gc.collect()
    gc.disable()
    try:
        with Connection(port) as connection:
            connection.send(post(path, body))
            assert answer(connection)[0] == status
        deadline = time.monotonic() + 5
        while any(isinstance(thing, Body) for thing in gc.get_objects()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()


def test_while_a_client_does_not_read_its_answers_uvicorn_makes_its_requests_wait() -> None:
    answered = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        answered.append("through ASGI")

    async def exchange() -> None:
        protocol = Protocol(
            uvicorn.Config(app, lifespan="off"), ServerState(), {"app_state": MagicMock(settings=Settings())}
        )
        protocol.connection_made(MagicMock(asyncio.Transport))
        protocol.pause_writing()  # as the transport does when too much of an answer is unsent
        protocol.data_received(post())
        await asyncio.sleep(0)
        assert not answered
        protocol.resume_writing()
        await asyncio.gather(*protocol.tasks)

    asyncio.run(exchange())
    assert answered == ["through ASGI"]


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


def test_a_client_that_says_nothing_is_left_after_the_keep_alive_time(start_server: Callable[..., int]) -> None:
    port = start_server(keep_alive_seconds=1)
    with contextlib.ExitStack() as stack:
        silent, head, body, long, served = (stack.enter_context(Connection(port)) for _ in range(5))
        head.send(b"POST /encode HTT")
        body.send(post()[:-1])
        long.send(post(body=BODY.ljust(FAST_PATH_BYTES + 1))[:-1])
        served.send(post())
        assert answer(served)[0] == 200
        for connection in (silent, head, body, long, served):
            assert ended(connection)


@pytest.mark.parametrize("body", [BODY, BODY.ljust(FAST_PATH_BYTES + 1)], ids=["short", "long"])
def test_a_body_that_comes_slowly_is_waited_for(body: bytes) -> None:
    """By a clock of the test's own: pieces that are less than the keep-alive time apart, and then no more."""

    class Clock:
        now = 0.0
        later: Callable[[], None]

        def time(self) -> float:
            return self.now

        def call_later(self, _: float, callback: Callable[[], None]) -> MagicMock:
            self.later = callback
            return MagicMock()

        def create_task(self, work: Any) -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(work)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def exchange() -> None:
        clock, transport = Clock(), MagicMock(asyncio.Transport)
        config = uvicorn.Config(app, lifespan="off", timeout_keep_alive=10)
        lifespan = {"app_state": MagicMock(settings=Settings(), head_cache=HeadCache())}
        protocol = Protocol(config, ServerState(), lifespan, clock)  # type: ignore[arg-type]
        protocol.connection_made(transport)
        data = post(body=body)
        for piece in (data[:-9], *(data[-9 + at : -8 + at] for at in range(8))):
            protocol.data_received(piece)
            await asyncio.sleep(0)
            clock.now += 9
            clock.later()
            assert not transport.close.called
        clock.now += 1
        clock.later()
        assert transport.close.called
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)

    asyncio.run(exchange())


def test_requests_on_more_connections_than_there_may_be_get_503(start_server: Callable[..., int]) -> None:
    port = start_server(max_connections=2)
    with contextlib.ExitStack() as stack:
        for expected in (200, 200, 503):
            connection = stack.enter_context(Connection(port))
            connection.send(post())
            assert answer(connection)[0] == expected


class TestDeadlines:
    """X-Request-Timeout-Ms."""

    def test_a_request_in_time_is_answered(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(post(X_Request_Timeout_Ms="20000"))
            assert answer(connection)[0] == 200

    @pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1" * 10])
    def test_a_time_that_is_none_is_a_bad_header(self, port: int, value: str) -> None:
        with Connection(port) as connection:
            connection.send(post(X_Request_Timeout_Ms=value))
            status, _, body = answer(connection)
        assert (status, json.loads(body)["detail"]) == (
            400,
            "X-Request-Timeout-Ms must be a number of milliseconds, 1 to 999999999.",
        )

    @pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["the fast path", "through ASGI"])
    def test_a_picture_that_takes_longer_than_there_is_time_gets_504(self, port: int, expect: dict[str, Any]) -> None:
        body = json.dumps({"images": [base64.b64encode(encoded(np.zeros((4000, 4000), np.uint8))).decode()]}).encode()
        with Connection(port) as connection:
            connection.send(post(body=body, X_Request_Timeout_Ms="1", **expect))
            assert answer(connection)[0] == 504


class TestKeys:
    """A service that asks for API keys."""

    @pytest.fixture
    def port(self, start_server: Callable[..., int], tmp_path: Path) -> int:
        (tmp_path / "keys").write_text("sesame\n")
        return start_server(api_keys_file=tmp_path / "keys")

    @pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["the fast path", "through ASGI"])
    def test_a_verb_asks_for_one(self, port: int, expect: dict[str, Any]) -> None:
        no_key: dict[str, Any] = {}
        for headers, wanted in (
            (no_key, 401),
            ({"X-API-Key": "wrong"}, 401),
            ({"Authorization": "Bearer sesame"}, 200),
        ):
            with Connection(port) as connection:
                connection.send(post(**headers, **expect))
                status, answered, body = answer(connection)
            assert status == wanted
            if wanted == 401:
                assert answered["www-authenticate"] == "Bearer"
                assert b"sesame" not in body

    def test_a_key_that_is_taken_out_is_refused_to_a_client_that_says_the_same_as_ever(
        self, port: int, tmp_path: Path
    ) -> None:
        with Connection(port) as connection:
            for _ in range(2):
                connection.send(post(X_API_Key="sesame"))
                assert answer(connection)[0] == 200
            (tmp_path / "keys").write_text("another\n")
            deadline = time.monotonic() + 10
            status = 200
            while status == 200:
                assert time.monotonic() < deadline
                connection.send(post(X_API_Key="sesame"))
                status = answer(connection)[0]
        assert status == 401

    def test_so_does_all_else_but_the_probes(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        assert [httpx.get(url + path).status_code for path in ("/models", "/docs", "/openapi.json", "/no")] == [401] * 4
        assert [httpx.get(url + path).status_code for path in ("/livez", "/readyz")] == [200] * 2
        assert httpx.get(f"{url}/models", headers={"X-API-Key": "sesame"}).status_code == 200


class TestOrigins:
    """A service that other origins' pages may call."""

    @pytest.fixture
    def url(self, start_server: Callable[..., int]) -> str:
        return f"http://127.0.0.1:{start_server(cors_origins='https://here.example')}"

    def test_a_page_from_there_may_read_the_answer(self, url: str) -> None:
        page = httpx.post(f"{url}/encode", json=DIGIT, headers={"Origin": "https://here.example"})
        assert (page.status_code, page.headers["access-control-allow-origin"]) == (200, "https://here.example")

    def test_and_ask_first_whether_it_may(self, url: str) -> None:
        asked = {"Origin": "https://here.example", "Access-Control-Request-Method": "POST"}
        assert httpx.options(f"{url}/encode", headers=asked).status_code == 200

    def test_a_page_from_elsewhere_may_not(self, url: str) -> None:
        page = httpx.post(f"{url}/encode", json=DIGIT, headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in page.headers

    def test_without_the_setting_nobody_may(self, port: int) -> None:
        page = httpx.post(f"http://127.0.0.1:{port}/encode", json=DIGIT, headers={"Origin": "https://here.example"})
        assert "access-control-allow-origin" not in page.headers


def test_pages_are_protected_from_other_pages(port: int) -> None:
    headers = httpx.get(f"http://127.0.0.1:{port}/docs").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
