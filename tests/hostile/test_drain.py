"""A drain ends within its bound, with exit status 0, and answers what has arrived whole."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.connection import Connection, request
from harness.servers import Server, running, wait_for
from tests.hostile.test_connection import BODY, GOOD, LIVEZ

CLIENTS = 60


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that the test stops."""
    with ExitStack() as stack:
        yield lambda module="service", **settings: stack.enter_context(
            running(tmp_path / "log", module, **settings)  # one for each test
        )


@pytest.mark.parametrize("kept", [False, True], ids=["on new connections", "on kept ones"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_requests_that_arrive_with_the_signal_are_answered(
    serve: Callable[..., Server], number: signal.Signals, kept: bool
) -> None:
    """The process is halted meanwhile, so all of them wait at the port, whole, when it hears of the signal."""
    server = serve()
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.port)) for _ in range(CLIENTS)] if kept else []
        for connection in connections:
            assert connection.ask(GOOD).status == 200
        server.process.send_signal(signal.SIGSTOP)
        if not kept:
            connections = [stack.enter_context(Connection(server.port)) for _ in range(CLIENTS)]
        for connection in connections:
            connection.send(GOOD)
        server.process.send_signal(number)
        server.process.send_signal(signal.SIGCONT)
        for connection in connections:
            assert [answer.status for answer in connection.answers()] == [200]
    assert server.process.wait(60) == 0


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
def test_during_the_pause_answers_say_that_the_connection_closes(serve: Callable[..., Server], path: str) -> None:
    server = serve(drain_pause_seconds=60)
    with ExitStack() as stack:
        first, second = (stack.enter_context(Connection(server.port)) for _ in range(2))
        for connection in (first, second):
            assert "connection" not in connection.ask(request(path, BODY)).headers
        server.process.terminate()
        wait_for(lambda: "Draining" in server.log.read_text())
        for connection in (first, second):
            answer = connection.ask(request(path, BODY))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert connection.answer() is None
        with Connection(server.port) as new:
            assert new.ask(LIVEZ).headers["connection"] == "close"
        server.process.terminate()  # a second signal does not wait for the pause
    assert server.process.wait(60) == 0


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
def test_a_run_that_never_ends_does_not_outlive_the_bound(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("FAULT", str(tmp_path / "fault"))
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty", drain_seconds=1, stall_seconds=600, deadline_ms=600_000)
    (tmp_path / "fault").write_text("hang")
    with Connection(server.port) as connection:
        connection.send(request(path, BODY))
        with Connection(server.port) as other:
            wait_for(lambda: b'vae_queue_depth_images{worker="0"} 1.0' in other.ask(METRICS).body)
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert [answer.status for answer in connection.answers()] == [503]
    assert "the process ends without what still runs" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_request_that_is_cut_off_lets_the_lifespan_end(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many requests are cancelled at once while the server goes over its tasks."""
    monkeypatch.setenv("FAULT", str(tmp_path / "fault"))
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty", drain_seconds=1, stall_seconds=600, deadline_ms=600_000)
    (tmp_path / "fault").write_text("hang")
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.port)) for _ in range(8)]
        for connection in connections:
            connection.send(GOOD)
        with Connection(server.port) as other:
            wait_for(lambda: b'vae_queue_depth_images{worker="0"} 8.0' in other.ask(METRICS).body)
        server.process.terminate()
        wait_for(lambda: "Application shutdown complete" in server.log.read_text())
        assert [[answer.status for answer in connection.answers()] for connection in connections] == [[503]] * 8
        (tmp_path / "fault").unlink()
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
