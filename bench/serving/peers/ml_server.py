"""MLServer: a custom runtime in the server's own process, which its documentation advises for light models.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.peers.ml_server HTTP_PORT GRPC_PORT METRICS_PORT

Speaks the Open Inference Protocol: POST /v2/models/vae/infer with BYTES, and /v2/models/mnist-mlp.encoder/infer with
pixels. It has no binary tensors over REST. Its adaptive batching made this job slower.
"""

from __future__ import annotations

import asyncio
import sys

import mlserver
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

from bench.serving.peers import GRAPH
from bench.serving.peers.vae import Encoder, Floats


class Vae(mlserver.MLModel):
    """One BYTES tensor of base64 PNGs in; mu and logvar out."""

    async def load(self) -> bool:
        self.encode = Encoder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        mu, logvar = self.work(payload.inputs[0])
        outputs = [NumpyCodec.encode_output("mu", mu), NumpyCodec.encode_output("logvar", logvar)]
        return InferenceResponse(model_name=self.name, outputs=outputs)

    def work(self, sent: RequestInput) -> tuple[Floats, Floats]:
        return self.encode(StringCodec.decode_input(sent))


class Graph(Vae):
    """The encoder itself: one UINT8 tensor of images in."""

    def work(self, sent: RequestInput) -> tuple[Floats, Floats]:
        return self.encode.run(NumpyCodec.decode_input(sent))


async def main() -> None:
    http, grpc, metrics = map(int, sys.argv[1:4])
    settings = mlserver.Settings(
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        parallel_workers=0,
        metrics_endpoint=None,
        debug=False,
    )
    models = [mlserver.ModelSettings(name=name, implementation=kind) for name, kind in (("vae", Vae), (GRAPH, Graph))]
    await mlserver.MLServer(settings).start(models)


if __name__ == "__main__":
    asyncio.run(main())
