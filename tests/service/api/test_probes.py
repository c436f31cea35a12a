from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient


def test_a_live_process_says_so(client: TestClient) -> None:
    answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"live": True, "reason": "Alive."})


def test_ready_when_models_are_loaded(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


def test_draining_is_alive_but_not_ready_and_still_answers(start: Callable[..., TestClient]) -> None:
    client = start()
    client.app.state.health.draining = True  # type: ignore[attr-defined]
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "Draining" in answer.json()["reason"]
    assert answer.headers["retry-after"] == "1"
    assert client.get("/livez").status_code == 200
    assert client.post("/sample", json={"n": 1}).status_code == 200
