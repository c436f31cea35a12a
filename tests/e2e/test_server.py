from __future__ import annotations

import base64
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from harness.digits import base64_png, digits
from harness.servers import Server, is_running, wait_for
from tests.bundles import write_bundle


def test_a_real_server_answers_real_digits(serve: Callable[..., Server]) -> None:
    server = serve()
    answer = httpx.post(f"{server.url}/reconstruct", json={"images": [base64_png(digits()[0])]})
    assert answer.status_code == 200
    assert base64.b64decode(answer.json()["images"][0]).startswith(b"\x89PNG")
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers


def test_torch_is_not_in_the_serving_process(serve: Callable[..., Server]) -> None:
    maps = Path(f"/proc/{serve().process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "torch" not in maps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("asked", [True, False], ids=["through ASGI", "the fast path"])
def test_a_request_in_flight_is_finished_and_the_exit_is_clean(
    serve: Callable[..., Server], number: signal.Signals, asked: bool
) -> None:
    server = serve()
    body = json.dumps({"images": [base64_png(digits()[0])]}).encode()
    head = (
        f"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{'Expect: 100-continue' if asked else 'Accept: */*'}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head)
        if asked:
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")  # the handler is running, and waits for its body
        else:
            httpx.get(f"{server.url}/livez")  # came later, and has been answered: the head is read
        connection.sendall(body[:10])
        server.process.send_signal(number)
        wait_for(lambda: "Shutting down" in server.log.read_text())
        connection.sendall(body[10:])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"mu"' in answer
    assert server.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")


def test_requests_that_outlast_the_drain_are_cut_off_within_its_bound(serve: Callable[..., Server]) -> None:
    server = serve(drain_seconds=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 100")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_two_workers_serve_one_port_and_stop_cleanly(serve: Callable[..., Server]) -> None:
    server = serve(workers=2)
    wait_for(lambda: len(server.workers()) == 2)  # the port answers as soon as the first of them does
    serving = server.workers()
    assert httpx.post(f"{server.url}/sample", json={"n": 1}).status_code == 200
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert not any(map(is_running, serving))


def test_another_models_folder_and_default_are_honoured(serve: Callable[..., Server], tmp_path: Path) -> None:
    write_bundle(tmp_path, "mine", 3)
    server = serve(models_dir=tmp_path, default_model="mine")
    assert httpx.post(f"{server.url}/sample", json={"n": 1}).json()["model"] == "mine@3"


def test_requests_are_logged_on_demand_and_their_contents_never(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("sesame")
    server = serve(log_format="json", log_requests=True, default_model="mnist-mlp@1", api_keys_file=tmp_path / "keys")
    text = base64_png(digits()[0])
    sent = {"X-API-Key": "sesame", "X-Request-ID": "mine"}
    assert httpx.post(f"{server.url}/encode", json={"images": [text]}, headers=sent).status_code == 200
    assert httpx.post(f"{server.url}/encode", json={"images": [text + "!"]}, headers=sent).status_code == 422
    server.process.terminate()
    assert server.process.wait(60) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    requests = [line for line in lines if line.get("request_id") == "mine"]
    assert [(line["route"], line["status"], line["model"]) for line in requests] == [
        ("/encode", 200, "mnist-mlp@1"),
        ("/encode", 422, None),
    ]
    assert requests[0]["images"] == 1
    assert requests[0]["compute_ms"] > 0
    assert "sesame" not in server.log.read_text()
    assert text[:20] not in server.log.read_text()
