"""Ray Serve: one replica, `@serve.batch` of up to 64, no waiting for a batch to fill.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.peers.ray_serve PORT

A plain deployment, no FastAPI inside. Which proxy stands in front is said in the environment (programs.py).
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from bench.serving.peers.vae import Encoder


class Vae:
    """One base64 PNG in, its latents out."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def encode(self, pictures: list[str]) -> list[dict[str, Any]]:
        return self.encoder.answers(pictures)

    async def __call__(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = await self.encode((await request.json())["image"])
        return answer


if __name__ == "__main__":
    ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False, _metrics_export_port=None)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    deployment = serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})(Vae)
    serve.run(deployment.bind(), route_prefix="/")
    signal.pause()
