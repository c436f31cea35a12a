"""Samples as the service draws them: a prior, a temperature, the decoder, and the tone curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.contract import tone_curve
from training.graphs import Graphs
from training.prior import Prior

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sampler:
    """What `/sample` answers for a bundle with these defaults; a test compares the two."""

    graphs: Graphs
    prior: Prior
    sharpness: float = 1.0
    temperature: float = 1.0

    def images(self, count: int, seed: int, label: int | None = None) -> Pixels:
        """Samples of the aggregate prior, or of one label: uint8 [count, *image_shape]."""
        return self._decoded(self.prior.draw(count, seed, label, self.temperature))

    def normal(self, count: int, seed: int) -> Pixels:
        """Samples of the normal prior: uint8 [count, *image_shape]."""
        latents = self.prior.means.shape[-1]
        noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latents), np.float32)
        return self._decoded(noise * np.float32(self.temperature))

    def _decoded(self, z: npt.NDArray[Any]) -> Pixels:
        return sharpened(self.graphs.images(z), self.sharpness)


def sharpened(images: Pixels, sharpness: float) -> Pixels:
    """Images after the tone curve of `service.contract`: uint8 of the same shape."""
    return np.frombuffer(tone_curve(sharpness), np.uint8)[images]
