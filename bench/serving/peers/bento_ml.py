"""BentoML, one worker, with and without its adaptive batching.

    BENCH_ENCODER=encoder.onnx python -m bentoml serve bench.serving.peers.bento_ml:Single --port PORT

`Single` takes one request at a time, `Batching` gathers up to 64. Where its latency budget would not be met it answers
503, which a second avoids and 50 ms did not. Metrics are off: they cost, and the job does not ask for them.
"""

from __future__ import annotations

from typing import Any

import bentoml

from bench.serving.peers.vae import Encoder

LEAN: dict[str, Any] = {"workers": 1, "metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}


@bentoml.service(**LEAN)
class Single:
    """Each request by itself."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @bentoml.api
    async def encode(self, images: list[str]) -> list[dict[str, Any]]:
        """Base64 PNGs to latents, on the event loop: a thread hop costs more than the model."""
        return self.encoder.answers(images)


@bentoml.service(**LEAN)
class Batching:
    """Requests of the same moment together."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def encode(self, images: list[str]) -> list[dict[str, Any]]:
        """Base64 PNGs to latents."""
        return self.encoder.answers(images)
