"""Where the service's own time goes for one digit: microseconds of each stage, in this process, without a socket.

    python -m bench.stages

Stages are timed in turns, each on 32 requests that arrive together, as they do under load; "the whole exchange" is from
the bytes of 32 connections to the bytes of their answers. What a request costs beyond it are the kernel and the client.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bench.serving import traffic
from bench.serving.traffic import Request
from harness.paths import DIGIT, MODELS
from service.api.answers import images_answer, latents_answer
from service.api.request_head import JSON, RequestOptions
from service.api.requests import Body, read_form
from service.api.schemas import ImageRequest
from service.api.wire import Protocol
from service.app import create_app
from service.images import codec
from service.inference.admission import Reservation
from service.inference.autoencoder import squared_error
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.settings import Settings

TOGETHER: Final = 32
AGAIN: Final = 16  # times in one turn, so that the stage runs with its own data in the caches
SECONDS: Final = 15  # long enough for some rounds that no other process disturbs
PICTURE: Final = DIGIT.read_bytes()
TEXT: Final = base64.b64encode(PICTURE).decode()
BODY: Final = orjson.dumps({"images": [TEXT]})
ENCODE: Final = Request("/encode", BODY)
REQUESTS: Final = {
    "/encode": ENCODE,
    "/reconstruct": Request("/reconstruct", BODY),
    "/encode, npy to npy": traffic.SINGLE["/encode npy to npy"],
    "/v2/models/mnist-mlp.encoder/infer, binary": traffic.graph_request(binary=True),
}


def main() -> None:
    """Measure and print."""
    print("| stage | us a request |\n|---|---|")
    for name, microseconds in uvloop.run(measure()).items():
        # The first decile: slower rounds were disturbed by other processes on the machine.
        print(f"| {name} | {statistics.quantiles(microseconds, n=10)[0]:.1f} |")


async def measure() -> dict[str, list[float]]:
    """Microseconds a request of each stage and of each verb's whole exchange, in turns for `SECONDS`."""
    stages = works()
    app = create_app(Settings(models_dir=MODELS))
    async with app.router.lifespan_context(app) as state:
        exchanges = {name: Exchange(app, dict(state or {}), request) for name, request in REQUESTS.items()}
        found: dict[str, list[float]] = {name: [] for name in stages}
        found |= {f"**{name}, the whole exchange**": [] for name in exchanges}
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            for name, (work, images) in stages.items():
                began = time.perf_counter()
                for _ in range(AGAIN):
                    work()
                found[name].append((time.perf_counter() - began) / AGAIN / images * 1e6)
            for name, exchange in exchanges.items():
                began = time.perf_counter()
                for _ in range(AGAIN):
                    await exchange.once()
                each = (time.perf_counter() - began) / AGAIN / TOGETHER * 1e6
                found[f"**{name}, the whole exchange**"].append(each)
    return found


def works() -> dict[str, tuple[Callable[[], object], int]]:
    """The stages: what each does, and for how many images at once."""
    engine = Engine(read_bundle(MODELS / "mnist-mlp" / "1"), provider="cpu", threads=1)
    contract, shape = engine.contract, engine.contract.image_shape
    images = np.repeat(
        codec.images_from_pictures([PICTURE], shape, preprocess="none", background=0, max_pixels=784), TOGETHER, 0
    )
    mu, logvar = engine.encode(images)
    decoded = engine.decode(mu)
    one = {"mu": mu[:1], "logvar": logvar[:1]}
    mse = squared_error(decoded[:1], images[:1])
    return {
        "JSON and its schema, in": (
            lambda: read_form(Body(BODY, RequestOptions(JSON)), ImageRequest, Reservation()),
            1,
        ),
        "base64 and PNG, in": (lambda: codec.images_from_small_pngs([TEXT], shape, max_pixels=784), 1),
        "encoder, a 32nd of a batch of 32": (lambda: engine.encode(images), TOGETHER),
        "decoder, a 32nd of a batch of 32": (lambda: engine.decode(mu), TOGETHER),
        "latents as JSON, out": (lambda: latents_answer(JSON, contract, one, (mu, logvar)), 1),
        "PNG, base64 and JSON, out": (lambda: images_answer(JSON, contract, decoded[:1], {**one, "mse": mse}), 1),
    }


class Exchange:
    """A request on each of 32 connections, and their answers."""

    def __init__(
        self, app: FastAPI, lifespan: dict[str, Any], request: Request, protocol: type[HttpToolsProtocol] = Protocol
    ) -> None:
        self._data = request.head(8000) + request.body
        state = ServerState()
        state.default_headers = [(b"date", b"Sun, 22 Nov 2026 12:00:00 GMT")]
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, proxy_headers=False)
        self._connections = [protocol(config, state, lifespan) for _ in range(TOGETHER)]
        for connection in self._connections:
            connection.connection_made(Wire())

    async def once(self) -> None:
        """From the bytes of the requests to those of the last answer."""
        answers = Wire.answers + TOGETHER
        for connection in self._connections:
            connection.data_received(self._data)
        while Wire.answers < answers:
            await asyncio.sleep(0)


class Wire(asyncio.Transport):
    """A transport without a socket. It counts the answers of all connections."""

    answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count an answer by its head. uvicorn's own protocol writes the body separately."""
        if bytes(data[:9]) == b"HTTP/1.1 ":
            assert bytes(data[9:12]) == b"200"
            Wire.answers += 1

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """All is sent at once."""
        return 0

    def pause_reading(self) -> None:
        """Nothing comes that is not asked for."""

    def resume_reading(self) -> None:
        """Nothing comes that is not asked for."""


if __name__ == "__main__":
    main()
