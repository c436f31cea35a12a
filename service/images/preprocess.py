"""From a picture of any size, mode and orientation to an array of the model's shape, as its training set looks.

`none` takes a picture as it is, `resize` scales it, `digit` does to it what the makers of MNIST did to their forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Images = npt.NDArray[np.uint8]
Preprocess = Literal["none", "resize", "digit"]

# MNIST as LeCun, Cortes and Burges made it: the ink in a box of 20 pixels inside a field of 28.
_DIGIT_BOX: Final = 20 / 28
# `digit` looks for ink in pictures of at most this many pixels a side: enough for any pen, and fast.
_DIGIT_SEARCH_SIDE: Final = 512
# Paper and ink must differ by this many grey levels; fainter marks are noise, and the page counts as empty.
_DIGIT_LEAST_CONTRAST: Final = 24
# Of the darkest ink, the share above which a pixel belongs to the digit when its edges are looked for.
_DIGIT_INK: Final = 0.25


class Unfit(ValueError):
    """A picture cannot be used. The sentence is for the client, as those of Pillow's own errors are not."""


def fit(picture: Image.Image, shape: tuple[int, ...], preprocess: Preprocess, background: int) -> Images:
    """The picture as uint8 of `shape`, [H, W] for grey or [H, W, 3], what is transparent in it over `background`.

    Raises Unfit when it does not fit as it is, holds no ink, or cannot be decoded.
    """
    mode = "L" if len(shape) == 2 else "RGB"
    try:
        if preprocess == "none":
            return _as_it_is(picture, shape, mode)
        # A JPEG decodes straight to 1/2, 1/4 or 1/8 of its size: the same averages for a tenth of the work.
        if picture.format == "JPEG":
            side = 8 * max(shape[:2]) if preprocess == "resize" else _DIGIT_SEARCH_SIDE
            picture.draft(None, (side, side))
        picture = _eight_bit(ImageOps.exif_transpose(picture))
        if preprocess == "digit":
            return _digit(picture, shape)
        return _resize(picture, shape, mode, background)
    except Unfit:
        raise
    except Exception as error:  # as on opening it: decoding meets the rest of the hostile bytes
        raise Unfit("The picture is broken and cannot be decoded.") from error


def _as_it_is(picture: Image.Image, shape: tuple[int, ...], mode: str) -> Images:
    if picture.mode != mode or picture.size != (shape[1], shape[0]):
        found = f"{picture.height}x{picture.width} {picture.mode}"
        raise Unfit(
            f"The picture is {found}, not {size(shape[:2])} {mode}; preprocess 'resize' or 'digit' would make it so."
        )
    return np.asarray(picture)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Any picture in mode L, RGB or, where anything in it may be transparent, RGBA."""
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _flatten(picture: Image.Image, mode: str, background: int) -> Image.Image:
    """A picture in mode L or RGB, the background showing through what is transparent."""
    if picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, (background, background, background, 255))
        paper.alpha_composite(picture)
        picture = paper
    return picture.convert(mode)


def _resize(picture: Image.Image, shape: tuple[int, ...], mode: str, background: int) -> Images:
    """Scale by area averages to fit `shape`, keeping the aspect ratio, in the middle of a field of background."""
    height, width = shape[:2]
    if picture.size == (width, height):
        return np.asarray(_flatten(picture, mode, background))
    # Scaled first and laid on the background after: the same by linearity, and a large picture is copied once less.
    scaled = _flatten(_scale(picture, min(width / picture.width, height / picture.height)), mode, background)
    field = np.full(shape, background, np.uint8)
    top, left = (height - scaled.height) // 2, (width - scaled.width) // 2
    field[top : top + scaled.height, left : left + scaled.width] = np.asarray(scaled)
    return field


def _scale(picture: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR)


def _digit(picture: Image.Image, shape: tuple[int, ...]) -> Images:
    """Make of a scan, a photo or a canvas what the makers of MNIST made of their forms.

    White ink on black, the ink scaled to fit a box of 20/28 of the field and moved so that its centre of mass is the
    field's centre (LeCun, Cortes, Burges: The MNIST database of handwritten digits). In MNIST's own images that centre
    is the pixel at 14, counted from 0: on average 13.99 down and 14.01 across.
    """
    if len(shape) != 2:
        raise Unfit("preprocess 'digit' is for models of grey images.")
    ink = _ink(_scale(picture, min(1.0, _DIGIT_SEARCH_SIDE / max(picture.size))))
    rows, columns = (np.flatnonzero((ink >= _DIGIT_INK).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    height, width = shape
    factor = min(height * _DIGIT_BOX / ink.shape[0], width * _DIGIT_BOX / ink.shape[1])
    digit = np.asarray(_scale(Image.fromarray(np.rint(ink * 255).astype(np.uint8)), factor))
    if not digit.any():  # a few specks far apart, each a small part of a pixel now
        raise Unfit("There is no ink in the picture.")
    digit = np.rint(digit * (255 / int(digit.max()))).astype(np.uint8)

    field = np.zeros(shape, np.uint8)
    top, left = (_start(digit, axis, side) for axis, side in enumerate(shape))
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field


def _ink(picture: Image.Image) -> npt.NDArray[np.float64]:
    """How much ink each pixel holds, [h, w] in [0, 1], 1 being the strongest, whichever of ink and paper is darker."""
    paper = 0
    if picture.mode == "RGBA":  # a drawing on a transparent canvas: on white if its own ink is dark, else on black
        drawing = np.asarray(picture.convert("LA"), np.float64)
        weight = drawing[..., 1].sum()
        paper = 255 if weight and (drawing[..., 0] * drawing[..., 1]).sum() < 128 * weight else 0
    grey = np.asarray(_flatten(picture, "L", paper), np.float64)
    level = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    lighter, darker = grey.max() - level, level - grey.min()
    if max(lighter, darker) < _DIGIT_LEAST_CONTRAST:
        raise Unfit("There is no ink in the picture.")
    ink: npt.NDArray[np.float64] = (grey - level) / lighter if lighter >= darker else (level - grey) / darker
    return ink.clip(0, 1)


def _start(digit: Images, axis: int, side: int) -> int:
    """Where along `axis` the digit starts for its centre of mass to lie on the middle pixel, as far as it fits."""
    mass = digit.sum(axis=1 - axis, dtype=np.float64)
    centre = float(mass @ np.arange(len(mass))) / float(mass.sum())
    return min(max(round(side / 2 - centre), 0), side - len(mass))


def size(shape: Sequence[int]) -> str:
    """A shape as people write it: 28x28."""
    return "x".join(map(str, shape))
