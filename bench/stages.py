"""Where the service's own time goes for one digit: microseconds of each stage, in this process, without a socket.

    python -m bench.stages

Stages are timed alone, on 32 requests that arrive together, as they do under load; "the whole exchange" is from the
bytes of 32 connections to the bytes of their answers. What a request costs beyond it are the kernel and the client.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import uvicorn
import uvloop
from uvicorn.server import ServerState

from service import codec
from service.api.answers import images_answer, latents_answer
from service.api.requests import JSON, Body, Terms, read_form
from service.api.schemas import ImageRequest
from service.app import create_app
from service.autoencoder import squared_error
from service.bundle import read_bundle
from service.engine import Engine
from service.settings import Settings
from service.wire import Protocol

TOGETHER: Final = 32
ROUNDS: Final = 200
ROOT: Final = Path(__file__).parents[1]
DIGIT: Final = (ROOT / "tests" / "data" / "digit.png").read_bytes()
TEXT: Final = base64.b64encode(DIGIT).decode()
BODY: Final = orjson.dumps({"images": [TEXT]})


def main() -> None:
    """Measure and print."""
    engine = Engine(read_bundle(ROOT / "models" / "mnist-mlp" / "1"), provider="cpu", threads=1)
    contract, shape = engine.contract, engine.contract.image_shape
    images = np.repeat(
        codec.images_from_pictures([DIGIT], shape, preprocess="none", background=0, max_pixels=784), 32, 0
    )
    mu, logvar = engine.encode(images)
    decoded = engine.decode(mu)
    one = {"mu": mu[:1], "logvar": logvar[:1]}
    mse = squared_error(decoded[:1], images[:1])
    whole = uvloop.run(exchanges())
    rows = [
        ("JSON and its schema, in", each(lambda: read_form(Body(BODY, Terms(JSON)), ImageRequest))),
        ("base64 and PNG, in", each(lambda: codec.images_from_small_pngs([TEXT], shape, max_pixels=784))),
        ("encoder, a 32nd of a batch of 32", each(lambda: engine.encode(images)) / TOGETHER),
        ("decoder, a 32nd of a batch of 32", each(lambda: engine.decode(mu)) / TOGETHER),
        ("latents as JSON, out", each(lambda: latents_answer(JSON, contract, one, (mu, logvar)))),
        ("PNG, base64 and JSON, out", each(lambda: images_answer(JSON, contract, decoded[:1], {**one, "mse": mse}))),
        ("**/encode, the whole exchange**", whole["/encode"]),
        ("**/reconstruct, the whole exchange**", whole["/reconstruct"]),
    ]
    print("| stage | us a request |\n|---|---|")
    for name, microseconds in rows:
        print(f"| {name} | {microseconds:.1f} |")


def each(work: Callable[[], Any]) -> float:
    """Microseconds of one call, from many rounds of 32."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(TOGETHER):
            work()
        rounds.append((time.perf_counter() - began) / TOGETHER * 1e6)
    return own(rounds)


def own(rounds: list[float]) -> float:
    """What the fastest tenth of the rounds keep below: what neighbours on the machine take is not ours."""
    return statistics.quantiles(rounds, n=10)[0]


async def exchanges() -> dict[str, float]:
    """Microseconds of a whole exchange of each verb, from a connection's bytes to its bytes, on 32 connections."""
    app = create_app(Settings(models_dir=ROOT / "models"))
    state = ServerState()
    state.default_headers = [(b"date", b"Sun, 22 Nov 2026 12:00:00 GMT")]
    async with app.router.lifespan_context(app) as rooms:
        found = {}
        for path in ("/encode", "/reconstruct"):
            request = (
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            data = request % (path.encode(), len(BODY)) + BODY
            connections = [
                Protocol(uvicorn.Config(app, lifespan="off"), state, dict(rooms or {})) for _ in range(TOGETHER)
            ]
            for connection in connections:
                connection.connection_made(Wire())
            rounds = []
            for _ in range(ROUNDS):
                before = Wire.answers
                began = time.perf_counter()
                for connection in connections:
                    connection.data_received(data)
                while Wire.answers < before + TOGETHER:
                    await asyncio.sleep(0)
                rounds.append((time.perf_counter() - began) / TOGETHER * 1e6)
            found[path] = own(rounds)
    return found


class Wire(asyncio.Transport):
    """A transport that goes nowhere, and counts the answers on all of its kind."""

    answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count an answer."""
        assert bytes(data[:15]) == b"HTTP/1.1 200 OK"
        Wire.answers += 1

    def is_closing(self) -> bool:
        """Never."""
        return False


if __name__ == "__main__":
    main()
