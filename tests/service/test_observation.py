"""Each request has one line in the log and counts once, whichever part of the service answers it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import uvicorn
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from uvicorn.server import ServerState

from harness.records import Lines
from service.api.wire import Protocol
from service.app import create_app
from service.settings import Settings
from service.telemetry.logs import LogWriter

Kind = tuple[str, str, int]


class Observed:
    """An application that logs its requests, and what its log and its metrics say."""

    def __init__(self, models: Path, **settings: object) -> None:
        self._stream = Lines()
        options = {"models_dir": models, "default_model": "tiny", "log_requests": True, "log_format": "json"}
        self.app = create_app(Settings(**(options | settings)), log_writer=LogWriter(self._stream))  # type: ignore[arg-type]

    def logged(self) -> Counter[Kind]:
        lines = [json.loads(line) for line in self._stream.lines]
        return Counter((line["method"], line["route"], line["status"]) for line in lines)

    def counted(self, exposition: str) -> Counter[Kind]:
        return Counter(
            {
                (sample.labels["method"], sample.labels["route"], int(sample.labels["status"])): int(sample.value)
                for family in text_string_to_metric_families(exposition)
                for sample in family.samples
                if sample.name == "vae_requests_total"
            }
        )


@pytest.fixture
def observed(tiny_models: Path) -> Callable[..., Observed]:
    """Make applications on the tiny bundles."""
    return lambda **settings: Observed(tiny_models, **settings)


@pytest.mark.parametrize("origins", ["", "https://here.example"])
def test_through_fastapi_or_beside_it(observed: Callable[..., Observed], origins: str) -> None:
    application = observed(cors_origins=origins)
    requests: list[tuple[str, str, str, int]] = [
        ("POST", "/sample", "/sample", 200),
        ("POST", "/sample?x=1", "/sample", 422),
        ("GET", "/sample", "/sample", 405),
        ("GET", "/models", "/models", 200),
        ("GET", "/models/nobody", "/models/{name}", 404),
        ("GET", "/nowhere", "unmatched", 404),
        ("HEAD", "/nowhere", "unmatched", 404),
        ("HEAD", "/models", "/models", 200),
        ("OPTIONS", "/sample", "/sample", 200),
        ("GET", "/models/tiny/files/README.md", "/models/{name}/files/{file}", 200),
        ("GET", "/readyz", "/readyz", 200),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("GET", "/metrics", "/metrics", 200),
    ]
    with TestClient(application.app) as client:
        for method, path, _, status in requests:
            answer = client.request(
                method,
                path,
                content=b'{"n": 1}' if method == "POST" else None,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == status
        expected = Counter((method, route, status) for method, _, route, status in requests)
        assert application.logged() == expected
        assert application.counted(client.get("/metrics").text) == expected


def test_refused_by_the_connection_itself(observed: Callable[..., Observed]) -> None:
    application = observed(max_header_bytes=1024)

    async def refused(data: bytes) -> bytes:
        async with application.app.router.lifespan_context(application.app) as state:
            transport = MagicMock(asyncio.Transport)
            transport.is_closing.return_value = False
            protocol = Protocol(uvicorn.Config(application.app, lifespan="off"), ServerState(), dict(state or {}))
            protocol.connection_made(transport)
            protocol.data_received(data)
            protocol.connection_lost(None)
        written: bytes = transport.write.call_args.args[0]
        return written

    assert asyncio.run(refused(b"this is not HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert asyncio.run(refused(b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)).startswith(b"HTTP/1.1 431 ")
    assert application.logged() == Counter({("other", "unmatched", 400): 1, ("other", "unmatched", 431): 1})
    with TestClient(application.app) as client:
        assert application.counted(client.get("/metrics").text) == application.logged() - Counter(
            {("GET", "/metrics", 200): 1}
        )
