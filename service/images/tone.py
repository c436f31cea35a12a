"""Sharper images: a tone curve on grey levels."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from service.contract import tone_curve
from service.images.preprocess import Images

_curve: Final = lru_cache(maxsize=256)(tone_curve)  # making one takes as long as encoding ten digits


def sharpened(images: Images, sharpness: float) -> Images:
    """Images, uint8 of any shape, after `contract.tone_curve`: at 1 these very images, else a read-only array."""
    if sharpness == 1:
        return images
    # A third faster than numpy.take.
    return np.ndarray(images.shape, np.uint8, images.tobytes().translate(_curve(sharpness)))
