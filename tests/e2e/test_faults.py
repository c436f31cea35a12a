"""Faults injected into real servers: the probes report them, other requests are not affected, the server recovers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from harness.digits import base64_png, digits
from harness.paths import MODELS
from harness.servers import Server, is_running, wait_for
from tests.bundles import write_bundle
from tests.e2e.faulty import GUILTY

DIGIT = {"images": [base64_png(digits()[0])]}
GUILTY_IMAGE = {"images": [base64_png(np.full((28, 28), GUILTY, np.uint8))]}
REFUSALS = 5_000 if os.environ.get("FUZZ") == "long" else 50
FAILING = "the last run failed, and so does the self-test."
SENTENCE = "The service failed on this request; the request is not at fault. Its log has the details."


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says how the server's runtime is to fail."""
    monkeypatch.setenv("FAULT", str(tmp_path / "fault"))
    return tmp_path / "fault"


@pytest.fixture(params=["on the loop", "off the loop"])
def broken(
    request: pytest.FixtureRequest, serve: Callable[..., Server], fault: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """A client of a server whose runtime can be made to fail, wherever it runs."""
    if request.param == "off the loop":
        monkeypatch.setenv("OFF_LOOP", "1")
    with httpx.Client(base_url=serve("tests.e2e.faulty").url, timeout=60) as client:
        yield client


def set_fault(file: Path, what: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(what)
    new.replace(file)


@pytest.mark.parametrize("what", ["raise", "nan"])
def test_a_runtime_that_fails_is_reported_and_recovers(broken: httpx.Client, fault: Path, what: str) -> None:
    truth = broken.post("/encode", json=DIGIT).json()
    model = truth["model"]
    set_fault(fault, what)
    for _ in range(2):
        answer = broken.post("/encode", json=DIGIT)
        assert (answer.status_code, answer.json()["detail"]) == (500, SENTENCE)
        probe = broken.get("/readyz")
        assert (probe.status_code, probe.json()["reason"]) == (503, f"{model}: {FAILING}")
        assert broken.get("/livez").status_code == 200
    set_fault(fault, "")
    assert broken.get("/readyz").status_code == 200
    assert broken.post("/encode", json=DIGIT).json() == truth


def test_a_guilty_request_fails_alone(broken: httpx.Client) -> None:
    truth = broken.post("/encode", json=DIGIT).json()
    assert broken.post("/encode", json=GUILTY_IMAGE).status_code == 500
    assert broken.get("/readyz").status_code == 200

    def post(number: int) -> httpx.Response:
        return broken.post("/encode", json=GUILTY_IMAGE if number % 7 == 3 else DIGIT)

    with ThreadPoolExecutor(16) as threads:
        for number, answer in enumerate(threads.map(post, range(200))):
            if number % 7 == 3:
                assert (answer.status_code, answer.json()["detail"]) == (500, SENTENCE)
            else:
                assert answer.json() == truth


def test_a_run_that_hangs_keeps_no_client_waiting_and_the_probes_report_it(
    serve: Callable[..., Server], fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty", stall_seconds=1, deadline_ms=600_000)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        truth = client.post("/encode", json=DIGIT).json()
        set_fault(fault, "hang")
        for _ in range(3):  # the run is still going on, so nothing but the deadline can have ended the wait
            answer = client.post("/encode", json=DIGIT, headers={"X-Request-Timeout-Ms": "200"})
            assert answer.status_code == 504
        wait_for(lambda: client.get("/livez").status_code == 503)
        assert "has not ended for more than 1 s" in client.get("/readyz").json()["reason"]
        set_fault(fault, "")
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/livez").status_code == 200
        assert client.post("/encode", json=DIGIT).json() == truth


def test_an_event_loop_that_hangs_ends_the_process(serve: Callable[..., Server], fault: Path) -> None:
    server = serve("tests.e2e.faulty", stall_seconds=2)
    set_fault(fault, "hang")
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{server.url}/encode", json=DIGIT, timeout=60)
    assert server.process.wait(60) == 1
    assert "tests/e2e/faulty.py" in server.log.read_text()


def encode_request(form: dict[str, Any]) -> bytes:
    """The bytes of a POST to /encode."""
    body = json.dumps(form).encode()
    head = "POST /encode HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""
    return "\r\n".join(head).encode() + body


@contextlib.contextmanager
def sent(server: Server, form: dict[str, Any]) -> Iterator[socket.socket]:
    """A connection with a request on it that the server has read."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(encode_request(form))
        assert httpx.get(f"{server.url}/livez").status_code == 200  # came later, and has been answered
        yield connection


def test_a_full_queue_is_refused_at_once_and_the_probes_are_not(
    serve: Callable[..., Server], fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty", queue=4, deadline_ms=600_000, stall_seconds=600)
    truth = httpx.post(f"{server.url}/encode", json=DIGIT).json()
    set_fault(fault, "hang")
    with contextlib.ExitStack() as stack, httpx.Client(base_url=server.url, timeout=60) as client:
        held = [stack.enter_context(sent(server, DIGIT)) for _ in range(4)]
        walks = (("/interpolate", {"z": [[0.0] * 20] * 2}), ("/traverse", DIGIT))
        for path, body in (("/encode", DIGIT), ("/sample", {"n": 1}), ("/decode", {"z": [[0.0] * 20]}), *walks):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["detail"] == "The queue is full."
        for _ in range(REFUSALS):  # the runs are still going on, so nothing here has waited for them
            assert client.post("/encode", json=DIGIT).status_code == 503
            assert client.get("/livez").status_code == 200
            assert client.get("/metrics").status_code == 200
        set_fault(fault, "")
        assert [connection.recv(100)[:12] for connection in held] == [b"HTTP/1.1 200"] * 4
        assert client.post("/encode", json=DIGIT).json() == truth


def test_what_a_client_that_left_asked_for_is_not_computed(
    serve: Callable[..., Server], fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty")
    set_fault(fault, "hang")
    with sent(server, DIGIT) as first:
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        before = len(list(descriptors.iterdir()))
        for _ in range(20):
            with sent(server, GUILTY_IMAGE):  # would fail if it were run
                pass
        assert httpx.get(f"{server.url}/livez").status_code == 200  # by now all of them have been accepted
        wait_for(lambda: len(list(descriptors.iterdir())) <= before)
        set_fault(fault, "")
        assert first.recv(100).startswith(b"HTTP/1.1 200")
    assert httpx.post(f"{server.url}/encode", json=DIGIT).status_code == 200
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "injected" not in server.log.read_text()


class TestModelsLive:
    """Bundles that come, change and go while requests are answered."""

    @pytest.fixture
    def models(self, tmp_path: Path) -> Path:
        shutil.copytree(MODELS / "mnist-mlp" / "1", tmp_path / "models" / "mnist-mlp" / "1")
        write_bundle(tmp_path / "models", "tiny", image_shape=(28, 28), latent_dim=20)
        return tmp_path / "models"

    def test_a_swap_under_load_drops_no_request_and_mixes_no_models(
        self, serve: Callable[..., Server], models: Path
    ) -> None:
        server = serve(models_dir=models, default_model="tiny", watch_seconds=0.05)
        url = f"{server.url}/reconstruct"
        sent = {**DIGIT, "model": "tiny"}
        truths = {"tiny@1": httpx.post(url, json=sent).json()}
        stop = threading.Event()
        answers: list[dict[str, Any]] = []

        def load() -> None:
            with httpx.Client(timeout=60) as client:
                while not stop.is_set():
                    answer = client.post(url, json=sent)
                    assert answer.status_code == 200, answer.text
                    answers.append(answer.json())

        def seen(model: str) -> bool:
            return any(answer["model"] == model for answer in answers)

        with ThreadPoolExecutor(4) as threads:
            loads = [threads.submit(load) for _ in range(4)]
            wait_for(lambda: seen("tiny@1"))
            for version in range(2, 6):
                wanted = f"tiny@{version}"
                staged = write_bundle(
                    models.parent / "staged", "tiny", version, image_shape=(28, 28), latent_dim=20, seed=version
                )
                staged.rename(models / "tiny" / str(version))
                wait_for(partial(seen, wanted))
                truths[wanted] = httpx.post(url, json=sent).json()
                shutil.rmtree(models / "tiny" / str(version - 1))
            stop.set()
            for done in loads:
                done.result()
        for answer in answers:
            assert answer == truths[answer["model"]]

    def test_a_bundle_whose_file_is_corrupted_is_served_from_memory(
        self, serve: Callable[..., Server], models: Path
    ) -> None:
        server = serve(models_dir=models, watch_seconds=0.05)
        truth = httpx.post(f"{server.url}/encode", json=DIGIT).json()
        (models / "mnist-mlp" / "1" / "encoder.onnx").write_bytes(b"corrupt")
        wait_for(lambda: "mnist-mlp/1" in httpx.get(f"{server.url}/models").json()["refused"])
        assert httpx.post(f"{server.url}/encode", json=DIGIT).json() == truth
        assert httpx.get(f"{server.url}/readyz").status_code == 200

    def test_a_default_that_is_deleted_makes_the_service_not_ready_until_it_is_back(
        self, serve: Callable[..., Server], models: Path
    ) -> None:
        server = serve(models_dir=models, watch_seconds=0.05)
        (models / "mnist-mlp").rename(models.parent / "kept")
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/readyz").json()["reason"] == "The default model is not served."
        assert httpx.get(f"{server.url}/models").json()["default"] is None
        assert httpx.post(f"{server.url}/encode", json=DIGIT).status_code == 404
        assert httpx.post(f"{server.url}/encode", json={**DIGIT, "model": "tiny"}).status_code == 200
        (models.parent / "kept").rename(models / "mnist-mlp")
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)
        assert httpx.post(f"{server.url}/encode", json=DIGIT).status_code == 200


def test_a_worker_that_is_killed_under_load_is_replaced_and_only_its_own_clients_notice(
    serve: Callable[..., Server],
) -> None:
    server = serve(workers=2)
    wait_for(lambda: len(server.workers()) == 2)
    truth = httpx.post(f"{server.url}/encode", json=DIGIT).json()
    stop = threading.Event()

    def load() -> int:
        broken = 0
        while not stop.is_set():
            with httpx.Client(timeout=60) as client, contextlib.suppress(httpx.TransportError):
                broken += 1
                while not stop.is_set():
                    assert client.post(f"{server.url}/encode", json=DIGIT).json() == truth
        return broken

    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(load) for _ in range(4)]
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in server.workers() and len(server.workers()) == 2)
        stop.set()
        assert all(done.result() <= 2 for done in loads)  # each lost at most the one connection it had
    for _ in range(20):
        assert httpx.post(f"{server.url}/encode", json=DIGIT).json() == truth


def test_workers_whose_supervisor_is_killed_stop_and_leave_nothing_behind(serve: Callable[..., Server]) -> None:
    server = serve(workers=2)
    wait_for(lambda: len(server.workers()) == 2)
    workers = server.workers()
    environment = Path(f"/proc/{workers[0]}/environ").read_bytes().split(b"\0")
    (folder,) = [Path(os.fsdecode(line.partition(b"=")[2])) for line in environment if line.startswith(b"_VAE_METRICS")]
    wait_for(lambda: len(list(folder.rglob("*.cells"))) == 4)  # of metrics and of statistics
    server.process.kill()
    wait_for(lambda: not any(map(is_running, workers)))
    with socket.socket() as anew:
        anew.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        anew.bind(("127.0.0.1", server.port))
    assert server.log.read_text().count("The supervisor is gone") == 2
    assert not folder.exists()


def test_a_batch_that_runs_when_the_service_is_told_to_stop_is_answered(
    serve: Callable[..., Server], fault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFF_LOOP", "1")
    server = serve("tests.e2e.faulty")
    set_fault(fault, "hang")
    with sent(server, DIGIT) as connection:
        server.process.terminate()
        wait_for(lambda: "Shutting down" in server.log.read_text())
        set_fault(fault, "")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert server.process.wait(60) == 0


def test_not_ready_comes_first_and_the_port_stays_open_for_the_pause(serve: Callable[..., Server]) -> None:
    server = serve(drain_pause_seconds=600)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        server.process.terminate()
        wait_for(lambda: client.get("/readyz").status_code == 503)
        assert client.post("/encode", json=DIGIT).status_code == 200  # the load balancer may not know yet
        assert httpx.get(f"{server.url}/livez").status_code == 200  # and new connections are taken
        server.process.terminate()  # a second signal does not wait for the pause
    assert server.process.wait(60) == 0


def test_after_the_pause_the_process_ends_by_itself(serve: Callable[..., Server]) -> None:
    server = serve(drain_pause_seconds=1)
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "the port closes in 1 s" in server.log.read_text()
