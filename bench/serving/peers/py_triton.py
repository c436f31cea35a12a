"""PyTriton: Triton's own HTTP front end and dynamic batcher (C++), and a Python function behind them.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.peers.py_triton HTTP_PORT GRPC_PORT METRICS_PORT

Speaks the Open Inference Protocol: POST /v2/models/vae/infer with BYTES, and /v2/models/mnist-mlp.encoder/infer with
pixels, in JSON or as bytes. One instance, batches of up to 64 without a delay. Front end and function are separate
processes, so it uses more than one core.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.serving.peers import GRAPH
from bench.serving.peers.vae import Encoder, Floats

encoder = Encoder()


@batch
def encode(image: npt.NDArray[np.bytes_]) -> dict[str, Floats]:
    mu, logvar = encoder(image[:, 0].tolist())
    return {"mu": mu, "logvar": logvar}


@batch
def run(image: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    mu, logvar = encoder.run(image)
    return {"mu": mu, "logvar": logvar}


if __name__ == "__main__":
    http, grpc, metrics = map(int, sys.argv[1:4])
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http,
        grpc_address="127.0.0.1",
        grpc_port=grpc,
        metrics_port=metrics,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        for name, function, image in (
            ("vae", encode, Tensor(name="image", dtype=bytes, shape=(1,))),
            (GRAPH, run, Tensor(name="image", dtype=np.uint8, shape=(28, 28))),
        ):
            triton.bind(
                model_name=name,
                infer_func=function,
                inputs=[image],
                outputs=[
                    Tensor(name="mu", dtype=np.float32, shape=(-1,)),
                    Tensor(name="logvar", dtype=np.float32, shape=(-1,)),
                ],
                config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            )
        triton.serve()
