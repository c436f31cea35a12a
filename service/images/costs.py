"""How much memory pictures take while they are read, in bytes: upper estimates, known before the work begins.

Pillow stores a pixel in 1 byte (grey, palette), in 2 (16-bit grey) or in 4 (everything else, RGB too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.components import MOST_RUNS
from service.images.preprocess import SEARCH_SIDE, Preprocess, Target, searches
from service.images.tiff import MOST_STRIPS, is_tiff

# Reserves so many bytes, or frees them when the number is negative. It raises when there is no room for them.
Hold = Callable[[int], None]

# Texts in one PNG, unpacked. Pillow's own limit is 64 MB, of a file of 64 kB.
TEXT_BYTES: Final = 2**20

# What reading any picture takes besides its file and its pixels: texts and profiles unpacked, tables of the decoders.
_ANY: Final = 2 * TEXT_BYTES + 2**20

# The search for a digit has up to so many bytes for each pixel of the picture in which it searches, and so many for
# each run of its components.
_SEARCH_BYTES: Final = 48
_RUN_BYTES: Final = 8 * 24

# Modes with an alpha channel, or with a palette that can have one.
_MAY_BE_TRANSPARENT: Final = frozenset({"P", "PA", "LA", "La", "RGBA", "RGBa"})

# libwebp has the picture three times: two canvases of an animation, even for one frame, and the frame that it decodes.
_WEBP: Final = 4 * 3


# What is kept of a strip of a TIFF file: its place, its size and how to decode it.
_STRIP: Final = 1024

# A strip has two numbers in its file, of two bytes at least.
_STRIP_ENTRY: Final = 4


def hold_nothing(_: int) -> None:
    """Reserve nothing: there is room for everything."""


@contextmanager
def held(hold: Hold, count: int) -> Iterator[None]:
    """Have `count` bytes reserved for the block."""
    hold(count)
    try:
        yield
    finally:
        hold(-count)


def base64_cost(text: str) -> int:
    """The bytes of a base64 text, and while it is decoded two copies of it."""
    return 3 * len(text)


def open_cost(file: bytes) -> int:
    """What it takes to read a picture's header. WebP files are copied twice, TIFF files once."""
    if is_tiff(file):
        return len(file) + _STRIP * min(MOST_STRIPS, len(file) // _STRIP_ENTRY) + _ANY
    return (2 * len(file) if file[8:12] == b"WEBP" else 0) + _ANY


def array_cost(image: npt.NDArray[np.uint8], target: Target, preprocess: Preprocess) -> int:
    """What it takes to make a picture of an image, uint8 [h, w] or [h, w, 3], and to fit that to `target`."""
    height, width, *channels = image.shape
    copies = 2 * image.size if not image.flags.c_contiguous else image.size
    return copies + _fitting(width, height, (2 if not channels else 8) * width * height, target, preprocess)


def decode_cost(picture: Image.Image, whole: int, target: Target, preprocess: Preprocess) -> int:
    """What it takes to decode a picture of `whole` pixels and to fit it to `target`. JPEGs have their draft size."""
    height, width = target.shape[:2]
    pixels = picture.width * picture.height
    if preprocess == "none":  # a picture of any other size is not decoded
        pixels = whole = min(pixels, height * width)
    stored = _stored(picture.mode)
    if picture.mode.startswith("I"):
        each = 2 * stored + 2 * 2 + 2  # the picture, its bytes, two arrays of uint16, two of uint8
    elif picture.mode in _MAY_BE_TRANSPARENT or "transparency" in picture.info:
        each = (0 if picture.mode == "RGBA" else 2 * stored) + 4 + 4  # as RGBA, and that multiplied by its alpha
    elif picture.mode in ("L", "RGB"):
        each = 2 * stored  # as it is, and turned
    else:
        each = 2 * stored + 4
    cost = _fitting(picture.width, picture.height, each * pixels, target, preprocess)
    if picture.format == "WEBP":
        cost = max(cost, _WEBP * pixels)  # it is decoded before it is anything else
    if picture.format == "JPEG" and "progressive" in picture.info:
        cost += 2 * len(picture.getbands()) * (whole + _jpeg_edges(picture))  # its coefficients, all of them
    return cost + _ANY


def _fitting(width: int, height: int, decoded: int, target: Target, preprocess: Preprocess) -> int:
    """The bytes of a decoded picture and of what is made of it on the way to `target`."""
    search = searches(target, preprocess)
    side = SEARCH_SIDE if search else target.shape[1]
    cost = decoded + 16 * target.shape[0] * target.shape[1]
    cost += 4 * min(width, side) * height  # scaled in one direction
    cost += 16 * (width + height) + 24 * height  # weights of the scaling; addresses of rows
    if search:
        pixels = min(width, side) * min(height, side)
        cost += _SEARCH_BYTES * pixels + _RUN_BYTES * min(MOST_RUNS, pixels)
    return cost


def _stored(mode: str) -> int:
    """The bytes of a pixel in Pillow's memory."""
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;16") else 4


def _jpeg_edges(picture: Image.Image) -> int:
    """The most pixels that the blocks of a JPEG reach beyond its edges."""
    return 32 * (picture.width + picture.height + 32)
