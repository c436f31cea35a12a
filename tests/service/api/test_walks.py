"""What `/interpolate` and `/traverse` share with the other verbs: runs, deadlines, limits, metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png
from service.app import create_app
from service.errors import InvalidInput
from service.inference.engine import Engine
from service.settings import Settings

PICTURES = [base64_png(np.full((6, 4), grey, np.uint8)) for grey in (0, 90, 255)]
Z = [[0.5, -1.0, 2.0], [-2.0, 0.0, 1.0]]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/interpolate", {"images": PICTURES, "path": "spherical"}),
    ("/interpolate", {"images": PICTURES[:2], "steps": 2}),
    ("/traverse", {"images": PICTURES[1:2], "dims": [2, 0]}),
    ("/encode", {"images": PICTURES[2:]}),
    ("/interpolate", {"z": Z, "steps": 5}),
    ("/traverse", {"z": Z[:1], "dims": [1], "steps": 2}),
    ("/decode", {"z": Z}),
]


class Runs:
    """The number of rows in each run of the engine. `meanwhile` is called in each, with the kind of run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[str, list[int]] = {"encode": [], "decode": []}
        self.meanwhile: Callable[[str], object] = lambda _: None
        for kind, method in (("encode", "encode"), ("decode", "decode_means")):
            monkeypatch.setattr(Engine, method, self._counted(kind, getattr(Engine, method)))

    def _counted(self, kind: str, run: Any) -> Any:
        def counted(engine: Engine, rows: Any) -> Any:
            self.rows[kind].append(len(rows))
            self.meanwhile(kind)
            return run(engine, rows)

        return counted

    def forget(self) -> None:
        """Forget the runs so far, such as those at the start."""
        for rows in self.rows.values():
            rows.clear()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


Client = Callable[..., Any]


def within(models: Path, scenario: Callable[[Client], Any]) -> Any:
    """Run a scenario with a function that asks the application: its answer's status and body."""

    async def run() -> Any:
        app = create_app(Settings(models_dir=models, default_model="tiny"))
        async with app.router.lifespan_context(app) as state:

            async def ask(
                path: str, body: dict[str, Any], left: asyncio.Event | None = None, **headers: str
            ) -> tuple[int, bytes]:
                parts: list[Any] = [{"type": "http.request", "body": json.dumps(body).encode()}]
                sent: list[Any] = []

                async def receive() -> Any:
                    if parts:
                        return parts.pop()
                    await (left or asyncio.Event()).wait()
                    return {"type": "http.disconnect"}

                async def send(message: Any) -> None:
                    sent.append(message)

                names = [(b"content-type", b"application/json")]
                names += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
                scope = {"type": "http", "method": "POST", "path": path, "headers": names, "query_string": b""}
                await app(scope | {"state": dict(state or {})}, receive, send)
                return sent[0]["status"], sent[1]["body"]

            return await scenario(ask)

    return asyncio.run(run())


def test_they_share_runs_and_get_the_answers_that_they_get_alone(tiny_models: Path, runs: Runs) -> None:
    async def scenario(ask: Client) -> None:
        alone = [await ask(path, body) for path, body in REQUESTS]
        assert [status for status, _ in alone] == [200] * len(REQUESTS)
        runs.forget()
        together = await asyncio.gather(*(ask(path, body) for path, body in REQUESTS))
        assert runs.rows["encode"] == [3 + 2 + 1 + 1]
        assert runs.rows["decode"] == [5 + 2 + 2, 15 + 2 + 14]  # of latents at once, of pictures after their encoding
        assert together == alone

    within(tiny_models, scenario)


@pytest.mark.parametrize("path", ["/interpolate", "/traverse"])
def test_a_failure_in_the_same_run_is_not_theirs(tiny_models: Path, runs: Runs, path: str) -> None:
    body = {"/interpolate": REQUESTS[4][1], "/traverse": REQUESTS[5][1]}[path]

    async def scenario(ask: Client) -> None:
        alone = await ask(path, body)
        decode = runs.rows["decode"]

        def fail(kind: str) -> None:
            if kind == "decode" and decode[-1] not in (5, 2):  # a run with the guilty request, alone or shared
                raise InvalidInput([])

        runs.meanwhile = fail
        guilty, innocent = await asyncio.gather(ask("/decode", {"z": Z + Z}), ask(path, body))
        assert (guilty[0], innocent) == (422, alone)

    within(tiny_models, scenario)


@pytest.mark.parametrize("slow", ["encode", "decode"])
def test_one_deadline_is_that_of_both_runs(tiny_models: Path, runs: Runs, slow: str) -> None:
    async def scenario(ask: Client) -> None:
        runs.forget()
        runs.meanwhile = lambda kind: time.sleep(0.2 if kind == slow else 0)
        status, _ = await ask(*REQUESTS[0], x_request_timeout_ms="100")
        assert status == 504
        assert slow == "decode" or not runs.rows["decode"]

    within(tiny_models, scenario)


def test_nothing_is_decoded_for_a_client_that_left_after_the_encoding(tiny_models: Path, runs: Runs) -> None:
    async def scenario(ask: Client) -> None:
        left = asyncio.Event()
        runs.forget()
        runs.meanwhile = lambda _: left.set()
        await ask(*REQUESTS[0], left)
        assert (runs.rows["encode"], runs.rows["decode"]) == ([3], [])

    within(tiny_models, scenario)


def test_the_images_that_they_make_are_counted(start: Callable[..., TestClient]) -> None:
    client = start()
    for path, body in REQUESTS:
        assert client.post(path, json=body).status_code == 200
    text = client.get("/metrics").text
    for verb, images in (("interpolate", 15 + 2 + 5), ("traverse", 14 + 2)):
        assert f'vae_images_total{{model="tiny@2",verb="{verb}"}} {images}.0' in text
        for stage in ("read", "queue", "compute", "write"):
            assert f'vae_stage_duration_seconds_count{{route="/{verb}",stage="{stage}"}}' in text


def test_the_memory_of_what_they_make_is_reserved(start: Callable[..., TestClient]) -> None:
    """A short request can ask for much."""
    client = start(memory_bytes=2**20, max_body_bytes=2**18, max_batch=4096)
    for path, body in (("/interpolate", {"z": Z}), ("/traverse", {"z": Z[:1], "dims": [0]})):
        assert client.post(path, json=body | {"steps": 100}).status_code == 200
        answer = client.post(path, json=body | {"steps": 4000})
        assert answer.status_code == 413
        assert "VAE_MEMORY_BYTES" in answer.json()["detail"]
