"""What it would cost to do without the internals of other libraries: docs/architecture.md has the table.

    python -m bench.internals

Each row replaces one use of a name that a library does not promise to keep by what the library offers in public, and
measures a request to /encode with one base64 digit, from a connection's bytes to its answer's, on 32 connections, with
no kernel in between. The rows are measured in turns. Ratios are of the fastest tenth of each row's rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final
from unittest.mock import patch

import pyspng
import uvloop
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench.stages import AGAIN, ENCODE, TOGETHER, Exchange
from harness.paths import MODELS
from service.api import requests
from service.api.answers import Answer
from service.api.fast_path import FastPathRequest
from service.api.head_cache import HeadCache
from service.api.schemas import ImageRequest
from service.api.state import AppState
from service.api.verbs import VERBS
from service.api.wire import Protocol
from service.app import create_app
from service.images import codec
from service.settings import Settings

SECONDS: Final = 30


@contextmanager
def no_head_cache() -> Iterator[None]:
    """Have the parser read every head."""
    with patch.object(HeadCache, "get", lambda *_: None), patch.object(HeadCache, "add", lambda *_: None):
        yield


@contextmanager
def asyncio_task() -> Iterator[None]:
    """Have asyncio.Task run each answer."""

    def begin(self: FastPathRequest, state: AppState, done: Callable[[FastPathRequest, Answer | None], None]) -> None:
        data, self.data = self.data, b""
        answering = asyncio.get_running_loop().create_task(VERBS[self.head.path].answer(state, self.head, data, self))
        answering.add_done_callback(lambda task: done(self, task.result()))

    with patch.object(FastPathRequest, "begin", begin):
        yield


@contextmanager
def public_validation() -> Iterator[None]:
    """Validate JSON by pydantic's model_validate_json."""

    class Validator:
        @staticmethod
        def validate_json(data: bytes, *, strict: bool) -> ImageRequest:
            return ImageRequest.model_validate_json(data, strict=strict)

    class Form:
        __pydantic_validator__ = Validator

    with patch.object(requests, "ImageRequest", Form):
        yield


@contextmanager
def public_png() -> Iterator[None]:
    """Read PNGs by pyspng.load."""

    def decode(file: bytes, _: object) -> Any:
        return pyspng.load(file)[:, :, None]

    with patch.object(codec, "spng_decode_image_bytes", decode):
        yield


ROWS: Final[dict[str, tuple[type[HttpToolsProtocol], Callable[[], AbstractContextManager[None]]]]] = {
    "as it is": (Protocol, nullcontext),
    "uvicorn's own HttpToolsProtocol": (HttpToolsProtocol, nullcontext),
    "no head cache": (Protocol, no_head_cache),
    "asyncio.Task": (Protocol, asyncio_task),
    "pydantic's model_validate_json": (Protocol, public_validation),
    "pyspng.load": (Protocol, public_png),
}


def main() -> None:
    """Print the rows as a table."""
    found = uvloop.run(measure())
    fastest = {name: statistics.quantiles(rounds, n=10)[0] for name, rounds in found.items()}
    whole = fastest["as it is"]
    print("| instead | us a request | requests/s |\n|---|---|---|")
    for name, microseconds in fastest.items():
        print(f"| {name} | {microseconds:.1f} | {100 * (whole / microseconds - 1):+.0f} % |")


async def measure() -> dict[str, list[float]]:
    """Microseconds a request of each row, in turns for `SECONDS`."""
    app: FastAPI = create_app(Settings(models_dir=MODELS))
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    async with app.router.lifespan_context(app) as state:
        exchanges = {name: Exchange(app, dict(state or {}), ENCODE, protocol) for name, (protocol, _) in ROWS.items()}
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            for name, (_, patched) in ROWS.items():
                with patched():
                    began = time.perf_counter()
                    for _ in range(AGAIN):
                        await exchanges[name].once()
                    found[name].append((time.perf_counter() - began) / AGAIN / TOGETHER * 1e6)
    return found


if __name__ == "__main__":
    main()
