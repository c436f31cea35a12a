"""Real MNIST digits, from the subset under tests/data/mnist (IDX, as published), and pictures made of them."""

from __future__ import annotations

import base64
import functools
import gzip
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.paths import DATA

Images = npt.NDArray[np.uint8]


@functools.cache
def digits() -> Images:
    """A few hundred of MNIST's test images, uint8 [N, 28, 28], read-only."""
    data = gzip.decompress((DATA / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    count, height, width = np.frombuffer(data, ">u4", 3, 4)
    return np.frombuffer(data, np.uint8, offset=16).reshape(int(count), int(height), int(width))


@functools.cache
def labels() -> npt.NDArray[np.uint8]:
    """What each of them is, uint8 [N], read-only."""
    return np.frombuffer(
        gzip.decompress((DATA / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )


def encoded(image: Images | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture file of an image."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def base64_png(image: Images) -> str:
    """An image as the base64 text of its PNG."""
    return base64.b64encode(encoded(image)).decode()


def decoded(picture: bytes | str) -> Images:
    """The pixels of a picture file, or of its base64 text."""
    data = base64.b64decode(picture, validate=True) if isinstance(picture, str) else picture
    return np.asarray(Image.open(io.BytesIO(data)))
