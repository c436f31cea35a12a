from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient


def test_a_live_process_is_live(client: TestClient) -> None:
    answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"live": True, "reason": "Alive."})


def test_a_service_with_its_models_loaded_is_ready(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


def test_while_it_drains_it_is_live_and_answers_but_is_not_ready(start: Callable[..., TestClient]) -> None:
    client = start()
    client.app.state.health.draining = True  # type: ignore[attr-defined]
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "Draining" in answer.json()["reason"]
    assert answer.headers["retry-after"] == "1"
    assert client.get("/livez").status_code == 200
    assert client.post("/sample", json={"n": 1}).status_code == 200
