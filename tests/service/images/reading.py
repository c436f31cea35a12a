"""Read pictures for a model of 28x28 by default."""

from __future__ import annotations

from typing import Any

import pytest

from harness.digits import digits
from service.errors import InvalidInput
from service.images import codec
from service.images.preprocess import Images, Preprocess

SHAPE = (28, 28)
DIGIT = digits()[0]


def read(
    *pictures: bytes,
    preprocess: Preprocess = "resize",
    shape: tuple[int, ...] = SHAPE,
    background: int = 0,
    max_pixels: int = 25_000_000,
) -> Images:
    return codec.images_from_pictures(
        pictures, shape, preprocess=preprocess, background=background, max_pixels=max_pixels
    )


def faults(*pictures: bytes, preprocess: Preprocess = "resize", shape: tuple[int, ...] = SHAPE) -> dict[Any, str]:
    with pytest.raises(InvalidInput) as caught:
        read(*pictures, preprocess=preprocess, shape=shape)
    return {fault.path: fault.reason for fault in caught.value.faults}
