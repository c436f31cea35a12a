"""What every peer shares: a base64 PNG to pixels with Pillow, and the encoder in onnxruntime, one thread as we have.

Only what an application would write around a model; whatever is fast or slow beyond it is the server's own.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

Floats = npt.NDArray[np.float32]


class Encoder:
    """The bundle's encoder. Calls may come from any thread."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(os.environ["BENCH_ENCODER"], options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: Sequence[str | bytes]) -> tuple[Floats, Floats]:
        """Base64 PNGs of digits -> mu, logvar, float32 [N, latent_dim]."""
        return self.run(np.stack([pixels(picture) for picture in pictures]))

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Images, uint8 [N, H, W] -> mu, logvar, float32 [N, latent_dim]."""
        mu, logvar = self._session.run(["mu", "logvar"], {"image": images})
        return mu, logvar

    def answers(self, pictures: Sequence[str | bytes]) -> list[dict[str, Any]]:
        """The same, one JSON object for each picture: what servers that batch for us want back."""
        mu, logvar = self(pictures)
        return [{"mu": m, "logvar": v} for m, v in zip(mu.tolist(), logvar.tolist(), strict=True)]


def pixels(picture: str | bytes) -> npt.NDArray[np.uint8]:
    """A base64 PNG -> grey levels, uint8 [H, W]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))
