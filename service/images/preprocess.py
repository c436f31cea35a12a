"""Convert a picture of any size, mode and orientation to an array of the model's shape, like its training data.

`none` takes a picture as it is. `resize` scales it. `digit` processes it as the images of MNIST were processed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Images = npt.NDArray[np.uint8]
Preprocess = Literal["none", "resize", "digit"]

# In MNIST (LeCun, Cortes and Burges) the ink fits into a box of 20 pixels, in an image of 28.
_DIGIT_BOX: Final = 20 / 28
# `digit` searches for ink in a picture scaled to at most this many pixels per side, which is enough and fast.
DIGIT_SEARCH_SIDE: Final = 512
# Paper and ink must differ by this many grey levels. A smaller difference is noise, and the page is empty.
_DIGIT_LEAST_CONTRAST: Final = 24
# A pixel with at least this fraction of the strongest ink belongs to the digit when its edges are searched.
_DIGIT_INK: Final = 0.25


class UnusablePicture(ValueError):
    """A picture cannot be used. The message is written for clients; the messages of Pillow's exceptions are not."""


def fit(picture: Image.Image, shape: tuple[int, ...], preprocess: Preprocess, background: int) -> Images:
    """The picture as uint8 of `shape`, [H, W] or [H, W, 3], with transparent parts over the grey level `background`.

    Raises UnusablePicture when its shape is wrong under `none`, when it has no ink, or when it cannot be decoded.
    """
    mode = "L" if len(shape) == 2 else "RGB"
    try:
        if preprocess == "none":
            return _as_it_is(picture, shape, mode)
        ImageOps.exif_transpose(picture, in_place=True)
        if preprocess == "digit":
            return _digit(_eight_bit(picture), shape)
        return _resize(_eight_bit(picture), shape, mode, background)
    except UnusablePicture:
        raise
    except Exception as error:  # Pillow raises many kinds of exceptions for invalid bytes
        raise UnusablePicture("The picture is broken and cannot be decoded.") from error


def draft(picture: Image.Image, shape: tuple[int, ...], preprocess: Preprocess) -> None:
    """Have a JPEG decoded directly to 1/2, 1/4 or 1/8 of its size: the same averages in a tenth of the time."""
    if picture.format == "JPEG" and preprocess != "none":
        side = 8 * max(shape[:2]) if preprocess == "resize" else DIGIT_SEARCH_SIDE
        picture.draft(None, (side, side))


def _as_it_is(picture: Image.Image, shape: tuple[int, ...], mode: str) -> Images:
    if picture.mode != mode or picture.size != (shape[1], shape[0]):
        found = f"{picture.height}x{picture.width} {picture.mode}"
        raise UnusablePicture(
            f"The picture is {found}, not {size(shape[:2])} {mode}; preprocess 'resize' or 'digit' would make it so."
        )
    return np.asarray(picture)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """The picture in mode L, in mode RGB, or in mode RGBA if any part of it may be transparent."""
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode == "P" and picture.palette is None:
        picture = picture.copy()  # gives it an empty one
    mode = "RGBA" if picture.has_transparency_data else "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _flatten(picture: Image.Image, mode: str, background: int) -> Image.Image:
    """The picture in mode L or RGB, with its transparent parts over the background."""
    if picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, (background, background, background, 255))
        paper.alpha_composite(picture)
        picture = paper
    return picture if picture.mode == mode else picture.convert(mode)


def _resize(picture: Image.Image, shape: tuple[int, ...], mode: str, background: int) -> Images:
    """Scale by area averages to fit into `shape`, keep the aspect ratio, and centre on the background."""
    height, width = shape[:2]
    if picture.size == (width, height):
        return np.asarray(_flatten(picture, mode, background))
    # Scale first, then blend with the background: the result is the same by linearity, with one copy less of a large
    # picture.
    scaled = _flatten(_scale(picture, min(width / picture.width, height / picture.height)), mode, background)
    field = np.full(shape, background, np.uint8)
    top, left = (height - scaled.height) // 2, (width - scaled.width) // 2
    field[top : top + scaled.height, left : left + scaled.width] = np.asarray(scaled)
    return field


def _scale(picture: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR)


def _digit(picture: Image.Image, shape: tuple[int, ...]) -> Images:
    """Process a scan, a photo or a drawing in the way of MNIST.

    The ink becomes white on black. It is scaled to fit into a box of 20/28 of the image, and moved so that its centre
    of mass is the centre of the image (LeCun, Cortes, Burges: The MNIST database of handwritten digits). In MNIST's own
    images the centre is pixel 14, counted from 0: on average 13.99 down and 14.01 across.
    """
    if len(shape) != 2:
        raise UnusablePicture("preprocess 'digit' is for models of grey images.")
    ink = _ink(_scale(picture, min(1.0, DIGIT_SEARCH_SIDE / max(picture.size))))
    rows, columns = (np.flatnonzero((ink >= _DIGIT_INK).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    height, width = shape
    factor = min(height * _DIGIT_BOX / ink.shape[0], width * _DIGIT_BOX / ink.shape[1])
    digit = np.asarray(_scale(Image.fromarray(np.rint(ink * 255).astype(np.uint8)), factor))
    if not digit.any():  # a few specks far apart, which vanish when scaled
        raise UnusablePicture("There is no ink in the picture.")
    digit = np.rint(digit * (255 / int(digit.max()))).astype(np.uint8)

    field = np.zeros(shape, np.uint8)
    top, left = (_start(digit, axis, side) for axis, side in enumerate(shape))
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field


def _ink(picture: Image.Image) -> npt.NDArray[np.float64]:
    """The amount of ink in each pixel, [h, w] in [0, 1]. The ink may be darker or lighter than the paper."""
    paper = 0
    if picture.mode == "RGBA":  # a transparent drawing: over white if its ink is dark, otherwise over black
        drawing = np.asarray(picture.convert("LA"), np.float64)
        weight = drawing[..., 1].sum()
        paper = 255 if weight and (drawing[..., 0] * drawing[..., 1]).sum() < 128 * weight else 0
    grey = np.asarray(_flatten(picture, "L", paper), np.float64)
    level = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    lighter, darker = grey.max() - level, level - grey.min()
    if max(lighter, darker) < _DIGIT_LEAST_CONTRAST:
        raise UnusablePicture("There is no ink in the picture.")
    ink: npt.NDArray[np.float64] = (grey - level) / lighter if lighter >= darker else (level - grey) / darker
    return ink.clip(0, 1)


def _start(digit: Images, axis: int, side: int) -> int:
    """The start of the digit along `axis` that places its centre of mass on the middle pixel, if there is room."""
    mass = digit.sum(axis=1 - axis, dtype=np.float64)
    centre = float(mass @ np.arange(len(mass))) / float(mass.sum())
    return min(max(round(side / 2 - centre), 0), side - len(mass))


def size(shape: Sequence[int]) -> str:
    """A shape as people write it: 28x28."""
    return "x".join(map(str, shape))
