"""LitServe: batches of up to 64, one inference worker, one API server, ZeroMQ between them.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.peers.lit_serve PORT

`fast_queue` (ZeroMQ) is what its documentation recommends above a hundred requests per second, and batching above all.
Waiting for a batch to fill (`batch_timeout`) only made this job slower.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve

from bench.serving.peers.vae import Encoder


class Vae(litserve.LitAPI):
    """One base64 PNG in, its latents out."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.encode = Encoder()

    # LitServe builds its route from the annotations of these two. Without any it reads plain JSON, the faster way.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["image"]

    def predict(self, x: list[str]) -> list[dict[str, Any]]:
        return self.encode.answers(x)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return output


if __name__ == "__main__":
    api = Vae(max_batch_size=64, api_path="/encode")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False
    )
