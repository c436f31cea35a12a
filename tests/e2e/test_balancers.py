"""HAProxy and nginx with the files of deploy/ in front of four workers, and of two instances that are rolled.

Where one is not installed its tests are skipped, unless REQUIRE_PROXIES=1.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from harness.balancers import KINDS, Balancer, balancing
from harness.connection import Answer, request
from harness.digits import base64_png, digits, encoded
from harness.servers import Server, running, status, wait_for
from harness.streams import FORM, FORM_END, Stream, part
from service.settings import Settings
from tests.hostile.tools import tool

CLIENTS: Final = 4
DEFAULTS: Final = Settings()

BODY: Final = json.dumps({"images": [base64_png(digits()[0])]}).encode()
LINE: Final = json.dumps({"image": base64_png(digits()[0])}).encode() + b"\n"
BATCH: Final = json.dumps({"images": [base64_png(digit) for digit in digits()[:64]]}).encode()

TOO_LONG: Final = [b"Content-Type: application/json", b"Content-Length: %d" % 10**9]

# What tells the balancers that a request is a stream; the body that goes with it.
STREAMS: Final = {
    "NDJSON": ({}, [LINE]),
    "JSONL": ({"Content-Type": "application/jsonl"}, [LINE]),
    "a form": (FORM, [part(encoded(digits()[0])), FORM_END]),
}


streams = pytest.mark.parametrize("name", STREAMS)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Balancer]]:
    """Start balancers. They listen in a folder of their own, for the path of a socket has to be short."""
    with contextlib.ExitStack() as stack:

        def start(kind: str, *ports: int) -> Balancer:
            tool(kind, "REQUIRE_PROXIES")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            return stack.enter_context(balancing(kind, ports, folder))

        yield start


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("workers") / "log", workers=4, models="mnist-mlp") as server:
        yield server


@pytest.fixture(scope="module")
def balancers(start: Callable[..., Balancer], workers: Server) -> dict[str, Balancer]:
    return {kind: start(kind, workers.port) for kind in KINDS}


@pytest.fixture(params=KINDS)
def balancer(request: pytest.FixtureRequest, balancers: dict[str, Balancer]) -> Balancer:
    return balancers[request.param]


class TestFourWorkers:
    """One instance with four workers behind each balancer."""

    def test_connections_to_the_workers_are_used_again(self, balancer: Balancer, workers: Server) -> None:
        """Also by clients that close theirs after each request."""
        before, requests = connections_to(workers.port), 50 * CLIENTS

        def ask(kept: bool) -> list[int]:
            return [answer.status for answer in asked(balancer, 50, kept=kept)]

        with ThreadPoolExecutor(CLIENTS) as pool:
            found = list(pool.map(ask, [number % 2 == 0 for number in range(CLIENTS)]))
        assert [status for statuses in found for status in statuses] == [200] * requests
        assert len(connections_to(workers.port) - before) <= requests // 10

    def test_a_body_that_is_too_long_is_413(self, balancer: Balancer) -> None:
        with balancer.connect() as connection:
            connection.send(b"POST /encode HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % b"\r\n".join(TOO_LONG))
            answer = connection.answer()
            assert answer is not None
            assert answer.status == 413

    def test_the_request_id_comes_back(self, balancer: Balancer) -> None:
        with balancer.connect() as connection:
            own = connection.ask(request("/encode", BODY, "application/json", b"X-Request-ID: mine"))
            other = connection.ask(request("/encode", BODY))
        assert own.headers["x-request-id"] == "mine"
        assert len(other.headers["x-request-id"]) == 32

    def test_a_head_may_be_as_long_as_without_it(self, balancer: Balancer) -> None:
        with balancer.connect() as connection:
            long = request("/encode", BODY, "application/json", b"X: " + b"x" * 30_000)
            assert connection.ask(long).status == 200

    @pytest.mark.parametrize("path", ["/metrics", "/%6detrics"])
    def test_metrics_are_kept_inside(self, balancer: Balancer, path: str) -> None:
        with balancer.connect() as connection:
            assert connection.ask(request(path, None, method="GET")).status == 404


class TestStreams:
    """HAProxy carries them. nginx cannot, for the reason in its file, and says so."""

    @pytest.fixture
    def haproxy(self, balancers: dict[str, Balancer]) -> Balancer:
        return balancers["haproxy"]

    def test_a_line_of_a_stream_is_answered_while_the_request_goes_on(self, haproxy: Balancer) -> None:
        with Stream(haproxy.connect()) as stream:
            stream.send(LINE)
            lines = stream.lines()
            first = next(lines)
            stream.send(LINE)
            stream.end()
            assert [first["line"], *(line["line"] for line in lines)] == [1, 2]

    @streams
    def test_streams_come_in_every_form(self, haproxy: Balancer, name: str) -> None:
        headers, pieces = STREAMS[name]
        with Stream(haproxy.connect(), headers=headers) as stream:
            stream.send(*pieces)
            stream.end()
            assert [line["line"] for line in stream.lines()] == [1]

    def test_a_stream_may_be_longer_than_a_body(self, haproxy: Balancer) -> None:
        long = LINE.replace(b"{", b"{" + b" " * 2**20)
        count = DEFAULTS.max_body_bytes // len(long) + 2
        with Stream(haproxy.connect()) as stream:
            sending = stream.send_all([long] * count)
            assert sum("mu" in line for line in stream.lines()) == count
            sending.join()

    @streams
    def test_nginx_refuses_them_with_what_to_send_instead(self, balancers: dict[str, Balancer], name: str) -> None:
        headers, pieces = STREAMS[name]
        with Stream(balancers["nginx"].connect(), headers=headers) as stream:
            stream.send(*pieces)
            stream.end()
            assert (stream.answer.status, stream.answer.headers["content-type"]) == (501, "application/problem+json")
            assert "send batches" in json.load(stream.answer)["detail"]


class Instance:
    """A server that can be stopped and started again on its port, which nobody else gets meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self._logs = (folder / f"{number}.log" for number in range(9))
        self._stack = contextlib.ExitStack()
        self.start()

    def start(self) -> None:
        # The pause has no end but that of a second signal, however slow the machine is.
        settings = {"port": self.port, "models": "mnist-mlp", "drain_pause_seconds": 600}
        self.server = self._stack.enter_context(running(next(self._logs), **settings))

    def close(self) -> None:
        self._stack.close()
        self._held.close()


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Instance]]:
    with contextlib.ExitStack() as stack:
        found = [Instance(tmp_path_factory.mktemp("instance")) for _ in range(2)]
        for instance in found:
            stack.callback(instance.close)
        yield found


class Load:
    """Clients of both balancers that ask without end, and note every answer that is not the right one."""

    def __init__(self, balancers: Sequence[Balancer], truths: dict[bytes, bytes]) -> None:
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._works: list[Callable[[], None]] = []
        for balancer in balancers:
            self._works += [self._client(balancer, BODY, truths[BODY], kept) for kept in (True, False)]
            self._works += [self._client(balancer, BATCH, truths[BATCH], True)]
        self._works += [self._streams(balancers[0])]
        self.counts = dict.fromkeys(range(len(self._works)), 0)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run, args=(n, work)) for n, work in enumerate(self._works)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until each client has had more answers."""
        before = dict(self.counts)
        wait_for(lambda: all(self.counts[n] > count + 5 for n, count in before.items()) or bool(self.wrong))

    def _run(self, number: int, work: Callable[[], None]) -> None:
        try:
            while not self._over.wait(0.01):
                work()
                self.counts[number] += 1
        except Exception as error:
            self.wrong.append(f"client {number}, after {self.counts[number]} answers: {error!r}")

    def _client(self, balancer: Balancer, body: bytes, truth: bytes, kept: bool) -> Callable[[], None]:
        answers = asked(balancer, None, body, kept=kept)

        def ask() -> None:
            answer = next(answers)
            assert (answer.status, answer.body) == (200, truth), f"{answer.status} {answer.body[:200]!r}"

        return ask

    def _streams(self, balancer: Balancer) -> Callable[[], None]:
        def ask() -> None:
            with Stream(balancer.connect()) as stream:
                stream.send(LINE, LINE)
                stream.end()
                lines = list(stream.lines())
                assert [set(line) for line in lines] == [{"line", "mu", "logvar"}] * 2, lines

        return ask


def test_no_request_fails_while_instances_are_rolled(instances: list[Instance], start: Callable[..., Balancer]) -> None:
    haproxy, nginx = balancers = [start(kind, *(instance.port for instance in instances)) for kind in KINDS]
    truths = {body: next(asked(nginx, 1, body)).body for body in (BODY, BATCH)}
    with Load(balancers, truths) as load:
        roll(instances[0], "one", haproxy, load)
        roll(instances[1], "two", haproxy, load)
    assert load.wrong == []


def roll(instance: Instance, name: str, haproxy: Balancer, load: Load) -> None:
    """Stop an instance, and start it anew. Between two steps all clients go on."""
    server, said = instance.server, len(haproxy.log.read_text())
    load.goes_on()
    server.process.terminate()
    # HAProxy's health checks see the drain while requests are still answered.
    wait_for(lambda: f"Server instances/{name} is DOWN" in haproxy.log.read_text()[said:])
    assert status(server.port, "/livez") == 200
    load.goes_on()
    server.process.terminate()
    assert server.process.wait(60) == 0
    load.goes_on()
    instance.start()
    wait_for(lambda: f"Server instances/{name} is UP" in haproxy.log.read_text()[said:])
    load.goes_on()


def test_requests_of_an_instance_that_is_killed_are_sent_again(
    instances: list[Instance], start: Callable[..., Balancer]
) -> None:
    """It is halted first, so that some wait in it, whole, when it dies."""
    dead, alive = instances
    balancers = [start(kind, dead.port, alive.port) for kind in KINDS]
    dead.server.process.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(balancer.connect()) for balancer in balancers for _ in range(8)]
        for connection in connections:
            connection.send(request("/encode", BODY))
        ends = [connection.socket for connection in connections]
        wait_for(lambda: len(select.select(ends, [], [], 0)[0]) + waiting_at(dead.port) >= len(ends))
        assert waiting_at(dead.port) > 0
        dead.server.process.kill()
        answers = [connection.answer() for connection in connections]
    assert [answer and answer.status for answer in answers] == [200] * len(connections)
    dead.server.process.wait(60)
    dead.start()


def asked(balancer: Balancer, count: int | None, body: bytes = BODY, *, kept: bool = True) -> Iterator[Answer]:
    """Answers to the same request, on one connection or on a new one each time; without a count, for ever."""
    data = request("/encode", body)
    number = 0
    while number != count:
        with balancer.connect() as connection:
            while number != count:
                answer = connection.ask(data)
                number += 1
                yield answer
                if not kept or answer.headers.get("connection") == "close":
                    break


def connections_to(port: int) -> set[tuple[str, str]]:
    """The two ends of each connection to a port: those that are open, and those of the last minute (TIME_WAIT)."""
    ends = [(row[1], row[2]) for row in sockets()]
    return {(min(pair), max(pair)) for pair in ends if any(end.endswith(f":{port:04X}") for end in pair)}


def waiting_at(port: int) -> int:
    """At how many connections the server at a port has bytes to read."""
    return sum(row[1].endswith(f":{port:04X}") and not row[4].endswith(":00000000") for row in sockets())


def sockets() -> list[list[str]]:
    """The fields of each connected TCP socket: local address, remote address, state, bytes to send and to read, ..."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[2] != "00000000:0000"]
