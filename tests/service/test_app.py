from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.service.fake_cuda import FakeCuda


def test_on_cuda_no_run_blocks_the_event_loop(start: Callable[..., TestClient], cuda: list[FakeCuda]) -> None:
    client = start(provider="cuda")
    for session in cuda:
        session.threads.clear()
    assert client.post("/sample", json={"n": 1}).status_code == 200
    assert [name for session in cuda for name in session.threads] == ["tiny@2_0"]


def test_every_request_is_counted_once_whatever_answers_it(start: Callable[..., TestClient], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("sesame\n")
    client = start(api_keys_file=tmp_path / "keys", cors_origins="https://here.example")
    client.headers["X-API-Key"] = "sesame"
    for method, path, headers in (
        ("POST", "/sample", {}),
        ("POST", "/sample", {"Origin": "https://here.example"}),
        ("POST", "/sample", {"X-API-Key": "wrong"}),
        ("GET", "/sample", {}),
        ("OPTIONS", "/sample", {"Origin": "https://here.example", "Access-Control-Request-Method": "POST"}),
        ("GET", "/models/nobody", {}),
        ("GET", "/nowhere", {}),
    ):
        client.request(method, path, headers=headers, content=b"{}", follow_redirects=False)
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "vae_requests_total"
    }
    assert counted == {
        ("POST", "/sample", "415"): 2,
        ("POST", "unmatched", "401"): 1,  # refused before the router runs
        ("GET", "/sample", "405"): 1,
        ("OPTIONS", "unmatched", "200"): 1,
        ("GET", "/models/{name}", "404"): 1,
        ("GET", "unmatched", "404"): 1,
    }
