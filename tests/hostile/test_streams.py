"""Streams under fire: they are of any length, and what one takes of the service is bounded."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

from harness.codings import PACK
from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.servers import Server, running, wait_for
from harness.streams import NDJSON, Stream
from tests.e2e.faulty import GUILTY

MIB = 2**20
LINES = [json.dumps({"image": base64_png(digit)}).encode() + b"\n" for digit in digits()]
BLOCK = b"".join(LINES)
GOOD = request("/encode", json.dumps({"images": [base64_png(digits()[0])]}).encode())
METRICS = request("/metrics", None, method="GET")


@pytest.fixture(scope="module")
def small(start: Callable[..., Server]) -> Server:
    """A server with little memory and a short queue."""
    return start(memory_bytes=8 * MIB, max_body_bytes=MIB, queue=256)


def said(server: Server, line: str) -> bool:
    """Whether the server's metrics have a line that fits this pattern, whole."""
    with Connection(server.port) as connection:
        return re.search(f"^{line}$", connection.ask(METRICS).body.decode(), re.MULTILINE) is not None


def answers_of(server: Server) -> list[bytes]:
    """What the line of each digit says behind its number."""
    with Stream(server.port) as stream:
        stream.send_all([BLOCK])
        lines = b"".join(stream.pieces()).splitlines(keepends=True)
    return [line.removeprefix(b'{"line":%d' % number) for number, line in enumerate(lines, 1)]


class TestMemory:
    def test_a_hundred_thousand_digits_go_through_one_request(self, server: Server) -> None:
        known = answers_of(server)
        wanted, found = hashlib.sha256(), hashlib.sha256()
        for number, rest in enumerate(islice(cycle(known), 100_000), 1):
            wanted.update(b'{"line":%d%b' % (number, rest))
        with Stream(server.port) as stream:
            stream.send_all([BLOCK] * (20_000 // len(LINES)))
            for _ in stream.pieces():
                pass
        server.forget_peak()
        before = server.memory()
        with Stream(server.port) as stream:
            stream.send_all([BLOCK] * (100_000 // len(LINES)))
            for piece in stream.pieces():
                found.update(piece)
        assert found.digest() == wanted.digest()
        assert server.memory("VmHWM") - before < 16 * MIB

    def test_a_client_that_reads_nothing_is_not_read(self, server: Server) -> None:
        """What it gets when it begins to read is whole all the same."""
        before = server.memory()
        blocks = 40_000 // len(LINES)
        sent = 0
        with Stream(server.port, receive_buffer=4096) as stream:
            stream.socket.settimeout(1)
            with suppress(TimeoutError):
                for _ in range(blocks):
                    stream.socket.sendall(b"%x\r\n" % len(BLOCK))
                    sent += 1
                    stream.socket.sendall(BLOCK + b"\r\n")
            assert sent < blocks
        assert server.memory() - before < 16 * MIB

    def test_a_client_that_reads_late_gets_everything(self, server: Server) -> None:
        with Stream(server.port) as stream:
            sending = stream.send_all([BLOCK] * 100)
            sending.join(1)  # by then it is held back, or the machine is slow: either is fine
            assert sum(piece.count(b"\n") for piece in stream.pieces()) == 100 * len(LINES)

    def test_a_line_without_an_end_is_not_kept(self, server: Server) -> None:
        server.forget_peak()
        before = server.memory()
        with Stream(server.port) as stream:
            stream.send_all([LINES[0], *[b"x" * MIB] * 64, b"\n", LINES[1]])
            first, long, last = stream.lines()
        assert (first["line"], long["line"], last["line"]) == (1, 2, 3)
        assert long["error"]["status"] == 413
        assert "mu" in last
        assert server.memory("VmHWM") - before < 48 * MIB

    def test_lines_of_nothing_take_nothing(self, server: Server) -> None:
        server.forget_peak()
        before = server.memory()
        with Stream(server.port) as stream:
            stream.send_all([b"\n" * MIB] * 8 + [b"1\n" * 20_000, LINES[0]])
            *bad, last = stream.lines()
        assert [line["line"] for line in (bad[0], bad[-1], last)] == [
            8 * MIB + number for number in (1, 20_000, 20_001)
        ]
        assert {line["error"]["status"] for line in bad} == {422}
        assert "mu" in last
        assert server.memory("VmHWM") - before < 16 * MIB

    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_a_bomb_takes_no_more_than_the_line_that_it_is(self, server: Server, coding: str) -> None:
        bomb = PACK[coding](b"".join([LINES[0], bytes(64 * MIB), b"\n" * 8 * MIB, LINES[1]]))
        server.forget_peak()
        before = server.memory()
        with Stream(server.port, headers={"Content-Encoding": coding}) as stream:
            stream.send_all([bomb])
            first, long, last = stream.lines()
        assert (first["line"], long["line"], last["line"]) == (1, 2, 8 * MIB + 2)
        assert long["error"]["status"] == 413
        assert "mu" in last
        assert server.memory("VmHWM") - before < 48 * MIB

    def test_lines_that_have_begun_are_counted_and_freed(self, small: Server) -> None:
        large = request("/encode", GOOD.partition(b"\r\n\r\n")[2].ljust(1_000_000))
        with ExitStack() as stack:
            for _ in range(14):
                stack.enter_context(Stream(small.port)).send(b"x" * 500_000)
            with Connection(small.port) as connection:

                def is_refused() -> bool:
                    answer = connection.ask(large)
                    return answer.status == 503

                wait_for(is_refused)
        with Connection(small.port) as connection:
            wait_for(lambda: connection.ask(large).status == 200)

    def test_a_stream_waits_for_memory_that_others_hold(self, small: Server) -> None:
        with ExitStack() as stack:
            others = [stack.enter_context(Stream(small.port)) for _ in range(14)]
            for other in others:
                other.send(b"x" * 500_000)
            with Stream(small.port) as stream:
                stream.send_all([LINES[0].strip().ljust(900_000) + b"\n"])
                for other in others:
                    other.connection.__exit__()
                (answer,) = stream.lines()
                assert "mu" in answer


def test_streams_leave_room_for_single_digits(small: Server) -> None:
    """Ten streams send more images than the queue has places."""
    with ExitStack() as stack, Connection(small.port) as connection:
        streams = [stack.enter_context(Stream(small.port)) for _ in range(10)]
        sending = [stream.send_all([BLOCK] * 5) for stream in streams]
        pieces = [stream.pieces() for stream in streams]
        counts = [0] * len(streams)
        while any(counts[number] < 5 * len(LINES) for number in range(len(streams))):
            assert connection.ask(GOOD).status == 200
            for number, each in enumerate(pieces):
                counts[number] += next(each, b"").count(b"\n")
        assert counts == [5 * len(LINES)] * len(streams)
        for thread in sending:
            thread.join()


def test_what_a_client_that_left_had_sent_is_given_up(small: Server) -> None:
    for _ in range(20):
        with Stream(small.port) as stream:
            stream.send(BLOCK, BLOCK[:1000])
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: said(small, r'vae_queue_depth_images\{worker="0"\} 0\.0'))
    with Connection(small.port) as connection:
        assert connection.ask(GOOD).status == 200


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server that leaves silent clients after a second, and whose runs hang while a file says so."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULT", str(folder / "fault"))
        patch.setenv("OFF_LOOP", "1")
        with running(folder / "log", "tests.e2e.faulty", keep_alive_seconds=1, stall_seconds=600) as server:
            yield server, folder / "fault"


def test_only_the_image_on_which_the_runtime_fails_fails(hanging: tuple[Server, Path]) -> None:
    guilty = json.dumps({"image": base64_png(np.full((28, 28), GUILTY, np.uint8))}).encode() + b"\n"
    body = b"".join([*LINES[:40], guilty, *LINES[40:100]])
    with Connection(hanging[0].port) as connection:
        connection.send(request("/encode?preprocess=none", body, NDJSON))
        answer = http.client.HTTPResponse(connection.socket)
        answer.begin()
        lines = [json.loads(line) for line in answer.read().splitlines()]
    assert [line["line"] for line in lines if "error" in line] == [41]
    assert lines[40]["error"]["status"] == 500
    assert all("mu" in line for line in lines if line["line"] != 41)


def tried(work: Callable[[], None]) -> bool:
    """Whether it went well. On a busy machine a connection's second may be over before its request is sent."""
    try:
        work()
    except (OSError, http.client.HTTPException):
        return False
    return True


def test_a_silent_client_is_left(hanging: tuple[Server, Path]) -> None:
    server, _ = hanging

    def work() -> None:
        with Stream(server.port) as stream:
            stream.send(LINES[0])
            answers = stream.lines()
            assert next(answers)["line"] == 1
            with pytest.raises(http.client.IncompleteRead):
                next(answers)

    wait_for(lambda: tried(work))


def test_a_client_that_waits_for_the_service_is_not_left(hanging: tuple[Server, Path]) -> None:
    server, fault = hanging

    def work() -> None:
        fault.write_text("hang")
        with Stream(server.port) as stream, Stream(server.port) as silent:
            stream.send(LINES[0])
            assert silent.connection.answer() is None  # more than a second later
            fault.unlink()
            assert next(stream.lines())["line"] == 1

    wait_for(lambda: tried(work))


def test_a_client_that_reads_nothing_is_left(hanging: tuple[Server, Path]) -> None:
    server, _ = hanging

    def is_left() -> bool:
        with Stream(server.port, receive_buffer=4096) as stream:
            stream.send_all([BLOCK] * 300).join()
            return said(server, r'vae_connections_closed_total\{reason="unread"\} [1-9].*')

    wait_for(is_left)


class TestDrain:
    @pytest.fixture
    def draining(self, tmp_path: Path) -> Iterator[Server]:
        with running(tmp_path / "log", drain_seconds=1) as server:
            yield server
            assert "Traceback" not in server.log.read_text()

    def test_a_stream_that_ends_in_time_is_whole(self, tmp_path: Path) -> None:
        with running(tmp_path / "log") as server, Stream(server.port) as stream:
            stream.send(LINES[0])
            answers = stream.lines()
            assert next(answers)["line"] == 1
            server.process.terminate()
            wait_for(lambda: "Shutting down" in server.log.read_text())
            stream.send(*LINES[1:10])
            stream.end()
            assert [answer["line"] for answer in answers] == list(range(2, 11))
            assert server.process.wait(60) == 0

    def test_one_that_does_not_is_told_so_and_cut(self, draining: Server) -> None:
        with Stream(draining.port) as stream:
            stream.send(LINES[0])
            answers = stream.lines()
            assert next(answers)["line"] == 1
            draining.process.terminate()
            last = next(answers)
            assert list(last) == ["error"]
            assert (last["error"]["status"], last["error"]["title"]) == (503, "Service Unavailable")
            assert "stops before" in last["error"]["detail"]
            with pytest.raises(http.client.IncompleteRead):
                next(answers)
            assert draining.process.wait(60) == 0

    def test_one_whose_client_does_not_read_does_not_outlive_the_bound(self, draining: Server) -> None:
        with Stream(draining.port, receive_buffer=4096) as stream:
            stream.send_all([BLOCK] * 300)
            stream.answer.getheader("x-model")
            draining.process.terminate()
            assert draining.process.wait(60) == 0
