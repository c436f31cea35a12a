"""Several workers: what becomes of the others when one cannot start, starts slowly, hangs, or serves something else."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.connection import Answer, Connection, request
from harness.servers import Server, running, wait_for
from tests.bundles import write_bundle
from tests.hostile.test_connection import GOOD

READYZ = request("/readyz", None, method="GET")
METRICS = request("/metrics", None, method="GET")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2):
        write_bundle(tmp_path / "models", version=version, seed=version)
    return tmp_path / "models"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start services of two workers, and wait until both serve."""
    with ExitStack() as stack:

        def serve(**settings: object) -> Server:
            server = stack.enter_context(running(tmp_path / "log", workers=2, **settings))
            wait_for(lambda: server.log.read_text().count(" has started.") == 2)
            return server

        yield serve


def ask(server: Server, data: bytes = READYZ) -> Answer | None:
    """The answer of one of the workers; None if it ended meanwhile."""
    with Connection(server.port) as connection:
        connection.send(data)
        return connection.answer()


def gauges(server: Server, name: str) -> list[float]:
    """The values of a gauge, of all workers that live."""
    answer = ask(server, METRICS)
    text = answer.body.decode() if answer is not None else ""
    return [float(number) for number in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)]


def ready(server: Server) -> float:
    return sum(gauges(server, "vae_ready"))


def kill_one(server: Server) -> None:
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in server.workers())


def stop(server: Server) -> None:
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()


def test_a_successor_that_cannot_start_leaves_the_others_alone_and_is_tried_again(
    serve: Callable[..., Server], models: Path
) -> None:
    shutil.rmtree(models / "tiny" / "2")
    server = serve(models_dir=models, default_model="tiny")
    graph = models / "tiny" / "1" / "encoder.onnx"
    content = graph.read_bytes()
    graph.write_bytes(b"damaged")
    kill_one(server)
    wait_for(lambda: server.log.read_text().count("A worker could not start; another is started in") == 2)
    assert server.log.read_text().count("CRITICAL") == 2  # each says why
    assert ready(server) == 1
    answer = ask(server)
    assert answer is not None
    assert answer.status == 200
    graph.write_bytes(content)
    wait_for(lambda: ready(server) == 2)
    graph.write_bytes(b"damaged")
    kill_one(server)
    wait_for(lambda: server.log.read_text().count("A worker could not start") == 3)
    stop(server)  # while a worker waits to be tried again


def test_workers_that_serve_different_versions_say_so(serve: Callable[..., Server], models: Path) -> None:
    server = serve(models_dir=models, default_model="tiny", watch_seconds=0.05)
    assert gauges(server, "vae_workers_agree") == [1, 1]
    assert len(gauges(server, "vae_model_info")) == 4
    assert len(set(gauges(server, "vae_models_hash"))) == 1
    graph = models / "tiny" / "2" / "encoder.onnx"
    content = graph.read_bytes()
    graph.write_bytes(b"damaged")
    kill_one(server)  # its successor serves version 1; the other one still has version 2
    wait_for(lambda: gauges(server, "vae_workers_agree") == [0, 0])
    assert len(gauges(server, "vae_model_info")) == 3
    answer = ask(server)
    assert answer is not None
    assert answer.status == 200
    assert re.search(r"Worker (0 and others \(1\)|1 and others \(0\)) serve different models", answer.json["reason"])
    graph.write_bytes(content)
    wait_for(lambda: gauges(server, "vae_workers_agree") == [1, 1])
    answer = ask(server)
    assert answer is not None
    assert "different" not in answer.json["reason"]
    stop(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_the_workers(serve: Callable[..., Server], number: signal.Signals) -> None:
    """All requests arrive while the workers are halted; they are answered before the workers end."""
    server = serve()
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.port)) for _ in range(40)]
        for connection in connections:
            connection.send(GOOD)
        server.process.send_signal(number)
        for pid in workers:
            wait_for(lambda pid=pid: pending(pid, signal.SIGTERM))  # type: ignore[misc]
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for connection in connections:
            assert [answer.status for answer in connection.answers()] == [200]
    assert server.process.wait(60) == 0


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether a process that is halted has yet to take the signal."""
    found = re.search(r"^ShdPnd:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(found and int(found[1], 16) >> (number - 1) & 1)


def test_a_second_signal_ends_the_pause_of_all_workers(serve: Callable[..., Server], models: Path) -> None:
    server = serve(models_dir=models, default_model="tiny", drain_pause_seconds=600)
    server.process.terminate()
    wait_for(lambda: server.log.read_text().count("Draining") == 2)
    stop(server)


def test_a_worker_that_does_not_stop_does_not_outlive_the_bound(serve: Callable[..., Server], models: Path) -> None:
    server = serve(models_dir=models, default_model="tiny", drain_seconds=0)
    os.kill(server.workers()[0], signal.SIGSTOP)
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "1 workers have not stopped in time; they are ended." in server.log.read_text()


def test_a_worker_that_hangs_is_replaced(serve: Callable[..., Server], models: Path) -> None:
    server = serve(models_dir=models, default_model="tiny", stall_seconds=10)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: victim not in server.workers() and len(server.workers()) == 2)
    assert f"Worker process {victim} does not answer; it is ended." in server.log.read_text()
    wait_for(lambda: ready(server) == 2)
    stop(server)
