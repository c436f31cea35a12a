"""A real server in a thread of this process, requests for it as bytes, and what its answers say."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harness.connection import Connection
from harness.digits import base64_png, digits
from harness.paths import MODELS
from harness.servers import wait_for
from service.__main__ import configuration
from service.app import create_app
from service.settings import Settings

DIGIT = {"images": [base64_png(digits()[0])], "preprocess": "none"}
BODY = json.dumps(DIGIT).encode()


class ThroughAsgi:
    """An application whose answers say that they came through ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-path", b"asgi")]
            await send(message)

        await self.app(scope, receive, marked)


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[int]:
    """The port of a real server, in a thread of this process, with the shipped models."""
    options = Settings(models_dir=MODELS, **settings)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(configuration(options, ThroughAsgi(create_app(options))))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


def post(
    path: str = "/encode",
    body: bytes = BODY,
    *,
    version: str = "1.1",
    length: bool = True,
    **headers: str,
) -> bytes:
    """A request's bytes."""
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    """The next answer: status, headers, body."""
    found = connection.answer()
    assert found is not None, "closed without an answer"
    return found.status, found.headers, found.body


def ended(connection: Connection) -> bool:
    """Whether the server has closed its end; waits for an answer or the close."""
    return connection.answer() is None


def path_of(headers: dict[str, str]) -> str:
    return headers.get("x-path", "fast")
