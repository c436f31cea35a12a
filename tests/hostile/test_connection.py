"""What one connection may take: each test failed on a server without the bounds of `service/api/wire.py`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.servers import Server, wait_for

BODY = json.dumps({"images": [base64_png(digits()[0])]}).encode()
GOOD = request("/encode", BODY)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
OTHER_BODY = LIVEZ.ljust(len(BODY))  # what a smuggler hides in a body


def closed_after(connection: Connection, piece: bytes, most: int) -> int:
    """How many bytes the server takes of a piece that is sent again and again, until it closes the connection."""
    sent = 0
    connection.socket.settimeout(30)
    try:
        while sent < most:
            connection.socket.sendall(piece)
            sent += len(piece)
    except (BrokenPipeError, ConnectionResetError):
        return sent
    pytest.fail(f"the server took {sent} bytes")


@pytest.fixture(scope="module")
def truth(server: Server) -> bytes:
    with Connection(server.port) as connection:
        return connection.ask(GOOD).body


class TestUpgrade:
    """An offer to upgrade is ignored: the body belongs to the request, whatever its framing."""

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x", b"TLS/1.0, HTTP/2.0"])
    @pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
    @pytest.mark.parametrize("chunked", [False, True], ids=["a length", "chunks"])
    @pytest.mark.parametrize("pause", [False, True], ids=["in one piece", "in two"])
    def test_the_request_is_answered_and_so_is_the_next_one(
        self, server: Server, truth: bytes, protocol: bytes, path: str, chunked: bool, pause: bool
    ) -> None:
        lines = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABkAAQAAP__"]
        if chunked:
            head = request(path, None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked", *lines)
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        else:
            head, body = request(path, BODY, "application/json", *lines)[: -len(BODY)], BODY
        with Connection(server.port) as connection:
            for _ in range(3):
                if pause:
                    connection.send(head)
                    # An answer to another connection says that the server has read the head.
                    with Connection(server.port) as other:
                        assert other.ask(LIVEZ).status == 200
                    connection.send(body + GOOD)
                else:
                    connection.send(head + body + GOOD)
                for _ in range(2):
                    answer = connection.answer()
                    assert answer is not None
                    assert (answer.status, answer.body) == (200, truth)

    def test_a_body_that_looks_like_a_request_is_a_body(self, server: Server) -> None:
        lines = (b"Connection: Upgrade", b"Upgrade: x")
        with Connection(server.port) as connection:
            connection.send(request("/encode", OTHER_BODY, "application/json", *lines) + GOOD)
            answers = [connection.answer() for _ in range(2)]
            assert [answer.status for answer in answers if answer] == [400, 200]

    def test_a_tunnel_is_refused(self, server: Server) -> None:
        with Connection(server.port) as connection:
            connection.send(b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n" + LIVEZ)
            assert [answer.status for answer in connection.answers()] == [405]


class TestTrailers:
    """What comes after the last chunk counts as a head, and so do the extensions of chunks."""

    @pytest.mark.parametrize("path", ["/encode", "/livez"])
    @pytest.mark.parametrize("piece", [b"X-1: y\r\n" * 512, b"x" * 4096], ids=["many lines", "one line without an end"])
    def test_trailers_without_an_end_are_431_and_the_connection_closes(
        self, server: Server, path: str, piece: bytes
    ) -> None:
        head = request(path, None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            connection.send(head + b"2\r\n{}\r\n0\r\n")
            assert closed_after(connection, piece, 64 * 2**20) < 8 * 2**20

    def test_so_are_they_after_a_refusal(self, start: Callable[..., Server], tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        server = start(api_keys_file=tmp_path / "keys")
        head = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            assert connection.ask(head + b"0\r\n").status == 401
            assert closed_after(connection, b"X-1: y\r\n" * 512, 64 * 2**20) < 8 * 2**20

    def test_a_few_trailers_are_ignored(self, server: Server, truth: bytes) -> None:
        head = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n" % (len(BODY), BODY)
        with Connection(server.port) as connection:
            connection.send(head + body + GOOD)
            for _ in range(2):
                answer = connection.answer()
                assert answer is not None
                assert (answer.status, answer.body) == (200, truth)

    @pytest.mark.parametrize("path", ["/encode", "/%65ncode"])
    def test_too_many_are_431_also_in_one_read(self, server: Server, path: str) -> None:
        head = request(path, None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            connection.send(head + b"2\r\n{}\r\n0\r\n" + b"X-1: y\r\n" * 6_000 + b"\r\n" + LIVEZ)
            assert [answer.status for answer in connection.answers()] == [431]

    @pytest.mark.parametrize("trailer", [b"Connection: close", b"Proxy-Connection: close"])
    def test_one_about_the_connection_is_refused(self, server: Server, trailer: bytes) -> None:
        """The parser obeyed it: the next request, which may be another's behind a proxy, got no answer."""
        head = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            connection.send(head + b"2\r\n{}\r\n0\r\n%b\r\n\r\n" % trailer + LIVEZ)
            assert [answer.status for answer in connection.answers()] == [400]

    def test_extensions_without_an_end_are_refused(self, server: Server) -> None:
        head = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            connection.send(head + b"5;a=")
            assert closed_after(connection, b"x" * 4096, 64 * 2**20) < 8 * 2**20


class TestPipelining:
    def test_many_requests_on_one_connection_are_answered_in_their_order(self, server: Server) -> None:
        count = 2000
        paths = ["/livez", "/nowhere", "/models/nobody"]
        data = b"".join(
            b"GET %b HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r%d\r\n\r\n" % (paths[n % 3].encode(), n)
            for n in range(count)
        )
        with Connection(server.port) as connection:
            sender = threading.Thread(target=connection.send, args=(data,))
            sender.start()
            answers = [connection.answer() for _ in range(count)]
            sender.join()
        assert [answer.headers["x-request-id"] for answer in answers if answer] == [f"r{n}" for n in range(count)]

    def test_a_client_that_reads_no_answers_is_not_read_either(self, server: Server) -> None:
        server.forget_peak()
        before = server.memory("VmHWM")
        with Connection(server.port) as connection:
            connection.socket.setblocking(False)
            sent = 0
            while sent < 512 * 2**20:
                try:
                    sent += connection.socket.send(LIVEZ * 1000)
                except BlockingIOError:
                    with Connection(server.port) as other:  # the server has its turn, and is well
                        assert other.ask(LIVEZ).status == 200
                    try:
                        sent += connection.socket.send(LIVEZ * 1000)
                    except BlockingIOError:
                        break
        assert sent < 64 * 2**20  # what the kernel keeps for both sides, and one read
        assert server.memory("VmHWM") - before < 32 * 2**20

    def test_garbage_after_a_slow_request_is_answered_after_it(self, server: Server) -> None:
        slow = request("/sample", b'{"n": 1000}')
        with Connection(server.port) as connection:
            connection.send(slow + GOOD + b"garbage\r\n\r\n" + LIVEZ)
            assert [answer.status for answer in connection.answers()] == [200, 200, 400]

    def test_a_broken_body_after_a_slow_request_is_answered_after_it(self, server: Server) -> None:
        slow = request("/sample", b'{"n": 1000}')
        broken = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            connection.send(slow + broken + b"zz\r\n" + LIVEZ)
            assert [answer.status for answer in connection.answers()] == [200, 400]


class TestWhiteSpace:
    """White space after a field's value is no part of it, though the parser leaves it there."""

    @pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
    @pytest.mark.parametrize("after", [b" ", b"\t", b" \t "], ids=["a space", "a tab", "both"])
    def test_a_length_is_read(self, server: Server, truth: bytes, path: str, after: bytes) -> None:
        lines = (b"Content-Type: application/json" + after, b"Content-Length: %d" % len(BODY) + after)
        with Connection(server.port) as connection:
            for _ in range(2):  # on a server without this the event loop turned no more
                answer = connection.ask(request(path, None, "", *lines) + BODY)
                assert (answer.status, answer.body) == (200, truth)

    def test_a_coding_is_read(self, server: Server, truth: bytes) -> None:
        head = request("/encode", None, "", b"Content-Type: application/json", b"Transfer-Encoding: chunked ")
        with Connection(server.port) as connection:
            assert connection.ask(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)).body == truth


class TestEmptyLines:
    def test_those_between_requests_are_ignored(self, server: Server, truth: bytes) -> None:
        with Connection(server.port) as connection:
            for _ in range(2):
                assert connection.ask(GOOD).body == truth
        with Connection(server.port) as connection:  # whose first head is remembered, so its parser has seen none
            assert connection.ask(GOOD).body == truth
            connection.send(b"\r\n")
            with Connection(server.port) as other:  # by its answer the server has read the empty line
                assert other.ask(LIVEZ).status == 200
            assert connection.ask(GOOD).body == truth


class TestUnread:
    def test_clients_that_read_no_answer_are_closed_and_counted(self, start: Callable[..., Server]) -> None:
        server = start(keep_alive_seconds=1)
        large = request("/openapi.json", None, method="GET")

        def closed() -> int:
            with Connection(server.port) as other:
                text = other.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body.decode()
            found = [line for line in text.splitlines() if line.startswith("vae_connections_closed_total{")]
            return sum(int(float(line.split()[-1])) for line in found if 'reason="unread"' in line)

        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(socket.socket())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", server.port))
                connection.sendall(large * 200)  # more than the kernel takes for a client that does not read
            wait_for(lambda: closed() == 20)


class TestEarlyAnswers:
    @pytest.mark.parametrize("path", ["/encode", "/nowhere"])
    def test_a_client_that_goes_on_sending_after_its_refusal_is_closed(self, server: Server, path: str) -> None:
        head = request(path, None, "", b"Content-Type: text/plain", b"Content-Length: 1000000000")
        with Connection(server.port) as connection:
            assert connection.ask(head + b"x").status in (415, 404)
            assert closed_after(connection, b"x" * 65536, 256 * 2**20) < 16 * 2**20

    @pytest.mark.parametrize("path", ["/encode", "/nowhere"])
    def test_a_body_that_breaks_after_its_answer_gets_no_other(self, server: Server, path: str) -> None:
        head = request(path, None, "", b"Content-Type: text/plain", b"Transfer-Encoding: chunked")
        with Connection(server.port) as connection:
            assert connection.ask(head + b"1\r\nx\r\n").status in (415, 404)
            connection.send(b"zz\r\n" + LIVEZ)
            assert connection.answers() == []

    def test_a_short_rest_is_read_and_the_connection_goes_on(self, server: Server, truth: bytes) -> None:
        head = request("/encode", None, "", b"Content-Type: text/plain", b"Content-Length: 100000")
        with Connection(server.port) as connection:
            assert connection.ask(head).status == 415
            assert connection.ask(b"x" * 100_000 + GOOD).body == truth


class TestStrictness:
    """What httptools lets through and RFC 9112 does not."""

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET /livez HTTP/1.1\r\n\r\n", 400),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET /livez HTTP/1.0\r\n\r\n", 200),
            (b"GET /models?a#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (request("/encode?model=a#x", BODY), 400),
            (request("/encode", None, "", b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
            (request("/encode", None, "", b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", 400),
        ],
    )
    def test_it_is_refused(self, server: Server, data: bytes, status: int) -> None:
        with Connection(server.port) as connection:
            assert connection.ask(data).status == status

    def test_the_refusal_of_a_head_request_has_no_body(self, server: Server) -> None:
        with Connection(server.port) as connection:
            connection.send(b"HEAD /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            head, end, body = connection.stream.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert (end, body) == (b"\r\n\r\n", b"")

    def test_http_1_0_is_never_told_to_continue(self, server: Server, truth: bytes) -> None:
        data = request("/encode", BODY, "application/json", b"Expect: 100-continue").replace(b"/1.1", b"/1.0", 1)
        with Connection(server.port) as connection:
            connection.send(data[: -len(BODY)])
            with Connection(server.port) as other:  # by its answer the server has read the head
                assert other.ask(LIVEZ).status == 200
            connection.send(BODY)
            data = connection.stream.read()
        assert data.startswith(b"HTTP/1.1 200 ")
        assert data.endswith(truth)

    def test_a_long_head_behind_a_good_request_is_too_long(self, server: Server) -> None:
        with Connection(server.port) as connection:
            connection.send(GOOD + request("/encode", BODY, "application/json", b"X: " + b"x" * 200_000))
            assert [answer.status for answer in connection.answers()] == [200, 431]

    @pytest.mark.parametrize("cut", [0, 1, 3], ids=["in one piece", "in two", "within the empty line"])
    def test_so_is_one_behind_a_short_chunked_body(self, server: Server, cut: int) -> None:
        first = request("/livez", None, "", b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n"
        long = request("/livez", None, "", b"X: " + b"x" * 40_000, method="GET")
        with Connection(server.port) as connection:
            connection.send(first[: len(first) - cut])
            if cut:
                with Connection(server.port) as other:
                    assert other.ask(LIVEZ).status == 200
            connection.send(first[len(first) - cut :] + long)
            assert [answer.status for answer in connection.answers()] == [405, 431]

    def test_several_accept_lines_are_one_list(self, server: Server) -> None:
        lines = (b"Accept: application/x-npy", b"Accept: text/html;q=0.1")
        for path in ("/encode", "/%65ncode"):
            with Connection(server.port) as connection:
                answer = connection.ask(request(path, BODY, "application/json", *lines))
            assert answer.headers["content-type"] == "application/x-npy"


class TestHalfClosed:
    @pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
    def test_a_client_that_sends_no_more_gets_its_answers(self, server: Server, truth: bytes, path: str) -> None:
        with Connection(server.port) as connection:
            connection.send(request(path, BODY) + GOOD)
            connection.socket.shutdown(socket.SHUT_WR)
            assert [(answer.status, answer.body) for answer in connection.answers()] == [(200, truth)] * 2

    def test_half_a_request_is_closed(self, server: Server) -> None:
        for part in (GOOD[:20], GOOD[:-1], request("/%65ncode", BODY)[:-1]):
            with Connection(server.port) as connection:
                connection.send(part)
                connection.socket.shutdown(socket.SHUT_WR)
                assert all(answer.status >= 400 for answer in connection.answers())


class TestConnections:
    def test_beyond_the_bound_only_probes_are_answered(self, start: Callable[..., Server]) -> None:
        server = start(max_connections=4)
        held = ExitStack()
        for _ in range(4):
            assert held.enter_context(Connection(server.port)).ask(GOOD).status == 200
        with held:
            with Connection(server.port) as connection:
                assert connection.ask(LIVEZ).status == 200
            with Connection(server.port) as connection:
                answer = connection.ask(GOOD)
                assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
                assert answer.headers["retry-after"] == "1"
                assert connection.answer() is None

    def test_far_beyond_it_connections_are_closed_at_once(self, start: Callable[..., Server]) -> None:
        server = start(max_connections=4)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(Connection(server.port))
            wait_for(lambda: sum(1 for _ in descriptors.iterdir()) < 100)
