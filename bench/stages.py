"""Where the service's own time goes for one digit: microseconds of each stage, in this process, without a socket.

    python -m bench.stages

Stages are timed alone, on 32 requests that arrive together, as they do under load; "the whole exchange" is the ASGI
application called 32 times at once. What a request on the wire costs beyond it is uvicorn, the kernel and the client.
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
import uvloop

from service import codec
from service.api.answers import images_answer, latents_answer
from service.api.requests import JSON, Body, read_form
from service.api.schemas import ImageRequest
from service.app import create_app
from service.autoencoder import squared_error
from service.bundle import read_bundle
from service.engine import Engine
from service.settings import Settings

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
        ("JSON and its schema, in", each(lambda: read_form(Body(BODY, JSON, {}, []), ImageRequest))),
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
    """Microseconds of one call: the median of many rounds of 32."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(TOGETHER):
            work()
        rounds.append((time.perf_counter() - began) / TOGETHER * 1e6)
    return statistics.median(rounds)


async def exchanges() -> dict[str, float]:
    """Microseconds of a whole exchange of each verb, 32 at once."""
    app = create_app(Settings(models_dir=ROOT / "models"))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200

    async with app.router.lifespan_context(app) as state:
        found = {}
        for path in ("/encode", "/reconstruct"):
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
            scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
            rounds = []
            for _ in range(ROUNDS):
                calls = [app({**scope, "state": dict(state or {})}, receive, send) for _ in range(TOGETHER)]
                began = time.perf_counter()
                await asyncio.gather(*calls)
                rounds.append((time.perf_counter() - began) / TOGETHER * 1e6)
            found[path] = statistics.median(rounds)
    return found


if __name__ == "__main__":
    main()
