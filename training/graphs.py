"""The two ONNX graphs of a bundle in onnxruntime, as the service runs them. Every figure is measured on them."""

from __future__ import annotations

import math
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from service import contract
from training import onnx_graph, parallel

CHUNK: Final = 1_000  # images in one run: a few megabytes for small images

Array = npt.NDArray[Any]


class Graphs:
    """Encoder and decoder of a bundle, on the CPU.

    `bytes` is the size of both files together; `weights` is how many numbers both have learned.
    """

    def __init__(self, encoder: bytes, decoder: bytes) -> None:
        self.bytes = len(encoder) + len(decoder)
        # By name: an encoder that refines its posteriors has the decoder's weights, too.
        self.weights = sum((_learned(encoder) | _learned(decoder)).values())
        self._encoder = onnx_graph.session(encoder)
        self._decoder = onnx_graph.session(decoder)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posteriors of uint8 images [N, *image_shape]: mu and logvar, float32 [N, L]."""

        def run(chunk: Tensor) -> tuple[Array, Array]:
            mu, logvar = self._encoder.run([contract.MU, contract.LOGVAR], {contract.IMAGE: chunk.numpy()})
            return mu, logvar

        chunks = parallel.ordered(run, torch.split(images, CHUNK))
        mu, logvar = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*chunks, strict=True))
        return mu, logvar

    def images_per_second(self, images: Tensor) -> float:
        """How many images one thread encodes in a second, in batches of at most 64: the best of ten runs."""
        batch = images[:64].numpy()
        taken = []
        for _ in range(10):
            began = time.perf_counter()
            self._encoder.run([contract.MU], {contract.IMAGE: batch})
            taken.append(time.perf_counter() - began)
        return len(batch) / min(taken)

    def mean_image(self, z: Tensor) -> Tensor:
        """The decoder's mean images of z [N, L]: float32 [N, *image_shape] in [-1, 1]."""
        (x_hat,) = self._decoder.run([contract.X_HAT], {contract.Z: z.numpy()})
        return torch.from_numpy(x_hat)

    def images(self, z: Array) -> npt.NDArray[np.uint8]:
        """The decoder's images of z [N, L] in grey levels: uint8 [N, *image_shape]."""

        def run(start: int) -> Array:
            (image,) = self._decoder.run([contract.IMAGE], {contract.Z: z[start : start + CHUNK]})
            result: Array = image
            return result

        return np.concatenate(list(parallel.ordered(run, range(0, len(z), CHUNK))))


def learned(graph: bytes) -> dict[str, onnx.TensorProto]:
    """The weights in a graph, by their names in the model's state."""
    constants = onnx.load_from_string(graph).graph.initializer
    return {each.name.rpartition("model.")[2]: each for each in constants if each.name.startswith("model.")}


def _learned(graph: bytes) -> dict[str, int]:
    return {name: math.prod(each.dims) for name, each in learned(graph).items()}
