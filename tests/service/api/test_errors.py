from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, digits
from service.api.error_handlers import OUR_FAULT, STATUSES
from service.errors import (
    BundleRefused,
    CannotStart,
    DeviceFailed,
    ProviderUnavailable,
    RuntimeFailed,
    TracingUnavailable,
    VaeError,
)
from service.inference.autoencoder import Autoencoder
from service.inference.engine import Engine
from tests.service.fake_cuda import FakeCuda

PICTURE = f"data:image/png;base64,{base64_png(digits()[0])}"
Z = {"name": "z", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}


def test_every_error_that_a_request_can_meet_has_a_status() -> None:
    of_the_start = {BundleRefused, CannotStart, ProviderUnavailable, TracingUnavailable}
    assert set(STATUSES) == set(VaeError.__subclasses__()) - of_the_start | {DeviceFailed}


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [("GET", "/nowhere", 404, "Not Found"), ("GET", "/encode", 405, "Method Not Allowed")],
)
def test_the_routers_own_errors_are_problems_too(
    client: TestClient, method: str, path: str, status: int, title: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": title,
        "request_id": answer.headers["x-request-id"],
    }


def test_a_wrong_method_says_which_are_right(client: TestClient) -> None:
    assert client.get("/encode").headers["allow"] == "OPTIONS, POST"
    for path in ("/models", "/models/mnist-mlp", "/livez", "/docs", "/openapi.json"):
        assert client.post(path).headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/models", "/models/mnist-mlp", "/livez", "/metrics", "/docs", "/openapi.json"])
def test_head_is_answered_as_get_is_without_the_content(client: TestClient, path: str) -> None:
    head, got = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    changing = {"x-request-id", "content-length"} if path == "/metrics" else {"x-request-id"}
    assert {*head.headers.items()} - {*got.headers.items()} <= {(name, head.headers[name]) for name in changing}


def test_head_of_what_has_no_get_is_refused(client: TestClient) -> None:
    assert client.head("/encode").status_code == 405
    assert client.head("/nowhere").status_code == 404


@pytest.mark.parametrize(("path", "methods"), [("/encode", "OPTIONS, POST"), ("/models/nobody", "GET, HEAD, OPTIONS")])
def test_options_are_the_methods_of_a_route(client: TestClient, path: str, methods: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (200, b"", methods)
    assert client.options("/nowhere").status_code == 404


def test_when_the_runtime_fails_the_client_learns_an_id_and_the_log_the_reason(
    start: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeFailed("secret: the GPU fell off the bus")

    client = start()
    monkeypatch.setattr(Engine, "_run", fail)
    answer = client.post("/sample", json={}, headers={"x-request-id": "abc-1"})
    assert answer.status_code == 500
    assert answer.json()["detail"] == OUR_FAULT
    assert answer.json()["request_id"] == "abc-1"
    assert "secret" not in answer.text
    assert "abc-1" in caplog.text
    assert "the GPU fell off the bus" in caplog.text


class TestGpu:
    """A GPU that fails under a request: the request may be sent again, and nothing of the inside is told."""

    @pytest.fixture
    def failing(
        self, start: Callable[..., TestClient], cuda: list[FakeCuda], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], TestClient]:
        def failing(message: str) -> TestClient:
            def fail(*_: object) -> None:
                raise RuntimeError(message)

            client = start(provider="cuda")
            monkeypatch.setattr(FakeCuda, "run", fail)
            return client

        return failing

    @pytest.mark.parametrize(
        ("path", "sent", "told"),
        [
            ("/sample", {}, lambda body: body["detail"]),
            ("/v2/models/tiny.decoder/infer", {"inputs": [Z]}, lambda body: body["error"]),
            ("/v1/embeddings", {"input": PICTURE, "preprocess": "resize"}, lambda body: body["error"]["message"]),
        ],
    )
    def test_a_failure_is_503_in_the_form_of_each_protocol(
        self,
        failing: Callable[[str], TestClient],
        path: str,
        sent: dict[str, Any],
        told: Callable[[Any], str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        answer = failing("Failed to allocate memory for requested buffer of size 3211264").post(path, json=sent)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert told(answer.json()) == OUR_FAULT
        assert "tiny@2: the GPU failed: the GPU has no memory left." in caplog.text

    def test_after_a_loss_both_probes_fail(self, failing: Callable[[str], TestClient]) -> None:
        client = failing("CUDA failure 716: misaligned address ; GPU=0 ; hostname=vm ; line=91")
        assert client.get("/readyz").status_code == 200
        assert client.post("/sample", json={}).status_code == 503
        ready, live = client.get("/readyz"), client.get("/livez")
        assert (ready.status_code, live.status_code) == (503, 503)
        assert ready.json()["reason"] == "tiny@2: the last run failed, and so does the self-test."
        assert live.json()["reason"] == "tiny@2: the GPU does not work in this process any more."


def test_what_nobody_foresaw_is_a_problem_with_an_id_too_and_the_next_request_is_answered(
    start: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()
    with monkeypatch.context() as patch:
        patch.setattr(Autoencoder, "sample", lambda *_, **__: 1 / 0)
        answer = client.post("/sample", json={})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == OUR_FAULT
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "ZeroDivisionError" in caplog.text
    assert client.post("/sample", json={}).status_code == 200


class TestRequestId:
    @pytest.mark.parametrize("path", ["/livez", "/models", "/nowhere", "/openapi.json"])
    def test_every_answer_carries_an_id_and_a_timing(self, client: TestClient, path: str) -> None:
        answers = [client.get(path), client.get(path)]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert len(ids) == 2
        assert all(answer.headers["server-timing"].startswith("queue;dur=") for answer in answers)

    @pytest.mark.parametrize("sane", ["a", "9f1c-22", "trace:1/2=3_4+5.6", "x" * 128])
    def test_a_sane_id_of_the_clients_is_kept(self, client: TestClient, sane: str) -> None:
        assert client.get("/livez", headers={"x-request-id": sane}).headers["x-request-id"] == sane

    @pytest.mark.parametrize("insane", ["", "x" * 129, "a b", 'a"b', "<script>", "a\tb", "é"])
    def test_an_insane_one_is_replaced(self, client: TestClient, insane: str) -> None:
        sent = {"x-request-id": insane.encode("latin-1")}
        kept = client.get("/livez", headers=sent).headers["x-request-id"]  # type: ignore[arg-type]
        assert kept != insane
        assert len(kept) == 32
