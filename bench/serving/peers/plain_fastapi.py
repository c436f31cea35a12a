"""FastAPI, onnxruntime and Pillow, as a first version of such a service is written: a `def` and an `async def` route.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.peers.plain_fastapi PORT

uvicorn with uvloop and httptools, no access log, one worker. FastAPI turns the answer's model straight into JSON with
pydantic, its documented fast path. The `def` route runs in the thread pool, the `async def` one on the event loop.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.serving.peers.vae import Encoder

encode = Encoder()
app = FastAPI()


class Pictures(BaseModel):
    """The request."""

    images: list[str]


class Latents(BaseModel):
    """The answer."""

    mu: list[list[float]]
    logvar: list[list[float]]


@app.post("/def")
def encode_def(request: Pictures) -> Latents:
    mu, logvar = encode(request.images)
    return Latents(mu=mu.tolist(), logvar=logvar.tolist())


@app.post("/async")
async def encode_async(request: Pictures) -> Latents:
    mu, logvar = encode(request.images)
    return Latents(mu=mu.tolist(), logvar=logvar.tolist())


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_config=None, access_log=False)
