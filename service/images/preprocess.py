"""Convert a picture of any size, mode and orientation to an array of the model's shape, like its training data.

`none` takes a picture as it is. `resize` scales it. `digit` finds a digit and processes it as those of MNIST were
processed. `auto` does what makes a picture most like the training data, and refuses none that `resize` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from service.images.digit import Found, UnusablePicture, find_digit
from service.images.ink import Floats, border_levels

Images = npt.NDArray[np.uint8]
Preprocess = Literal["auto", "none", "resize", "digit"]

# In MNIST (LeCun, Cortes and Burges) the ink fits into a box of 20 pixels, in an image of 28.
MNIST_BOX: Final = 20 / 28
# A digit is searched in a picture scaled to at most this many pixels per side, which is enough and fast.
SEARCH_SIDE: Final = 512
# A background up to this far from black or white says what ink looks like.
_PLAIN: Final = 64
# A pixel with at least this fraction of the strongest ink belongs to the digit when its edges are searched.
_DIGIT_INK: Final = 0.25
# In training images whose ink fills at least so much of a side, things are shown to their edges, as in Fashion-MNIST.
_FULL_BOX: Final = 0.9
# A picture has a background of one level when its edge has at most this spread of grey levels; what differs from it by
# more is in the foreground.
_EVEN: Final = 24


@dataclass(frozen=True, slots=True)
class Target:
    """What pictures are converted to: a model's `shape`, [H, W] or [H, W, 3], and how its training images look.

    `background` is the grey level of empty paper, 0 to 255; `box` the share of a side that the ink takes, or what is
    shown, in (0, 1].
    """

    shape: tuple[int, ...]
    background: int
    box: float = MNIST_BOX

    @property
    def says_what_ink_is(self) -> bool:
        """Whether these are grey images on black or on white."""
        return len(self.shape) == 2 and not _PLAIN < self.background < 255 - _PLAIN


@dataclass(frozen=True, slots=True)
class Fitted:
    """A picture as an array of the model's shape, and where the digit was, if one was searched and found."""

    image: Images
    found: Found | None = None


def box_of(images: Images, background: int) -> float:
    """The share of a side that ink takes in training images, uint8 [N, H, W]: the median of the larger side's share.

    1 for colour images, whose background does not say what ink is.
    """
    if images.ndim != 3:
        return 1.0
    ink: npt.NDArray[np.bool_] = np.abs(images.astype(np.int16) - background) > _EVEN
    shares = []
    for axis in (1, 2):
        along = np.logical_or.reduce(ink, axis=axis)  # [N, W] or [N, H]
        side = along.shape[1]
        length = side - along.argmax(axis=1) - along[:, ::-1].argmax(axis=1)
        shares.append(length / side)  # 1 where there is no ink
    return float(np.median(np.maximum(*shares)))


def fit(picture: Image.Image, target: Target, preprocess: Preprocess, reduced: float = 1) -> Fitted:
    """The picture as uint8 of the target's shape, with transparent parts over its background.

    `reduced` is how many times larger the picture was before `draft`: places are given in its first size. Raises
    UnusablePicture when its shape is wrong under `none`, when it has no digit under `digit`, or when it cannot be
    decoded.
    """
    try:
        if preprocess == "none":
            return Fitted(_as_it_is(picture, target.shape))
        ImageOps.exif_transpose(picture, in_place=True)
        picture = _eight_bit(picture)
        if preprocess == "digit":
            return _digit(picture, target, reduced)
        if preprocess == "auto" and target.says_what_ink_is:
            return _auto(picture, target, reduced)
        return Fitted(_resize(picture, target.shape, target.background))
    except UnusablePicture:
        raise
    except Exception as error:  # Pillow raises many kinds of exceptions for invalid bytes
        raise UnusablePicture("The picture is broken and cannot be decoded.") from error


def searches(target: Target, preprocess: Preprocess) -> bool:
    """Whether a digit is searched in pictures of another size than the model's."""
    return preprocess == "digit" or (preprocess == "auto" and target.says_what_ink_is)


def draft(picture: Image.Image, target: Target, preprocess: Preprocess) -> float:
    """Have a JPEG decoded directly to 1/2, 1/4 or 1/8 of its size: the same averages in a tenth of the time.

    Returns how many times smaller it becomes.
    """
    width = picture.width
    if picture.format == "JPEG" and preprocess != "none":
        side = 0 if preprocess == "digit" else 8 * max(target.shape[:2])
        side = max(side, SEARCH_SIDE) if searches(target, preprocess) else side
        picture.draft(None, (side, side))
    return width / picture.width


def _as_it_is(picture: Image.Image, shape: tuple[int, ...]) -> Images:
    if picture.mode != _mode(shape) or picture.size != (shape[1], shape[0]):
        found = f"{picture.width}x{picture.height} {picture.mode}"
        raise UnusablePicture(
            f"The picture is {found}, not {size(shape)}; preprocess 'auto', 'resize' or 'digit' would make it so."
        )
    return np.asarray(picture)


def _mode(shape: Sequence[int]) -> str:
    """Pillow's mode of pictures with this shape."""
    return "L" if len(shape) == 2 else "RGB"


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


def _resize(picture: Image.Image, shape: tuple[int, ...], background: int) -> Images:
    """Scale by area averages to fit into `shape`, keep the aspect ratio, and centre on the background."""
    (height, width), mode = shape[:2], _mode(shape)
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


def _digit(picture: Image.Image, target: Target, reduced: float) -> Fitted:
    """Find the digit in a scan, a photo or a drawing, and process it in the way of MNIST."""
    if len(target.shape) != 2:
        raise UnusablePicture("preprocess 'digit' is for models of grey images.")
    small = _small(picture)
    ink, found = find_digit(np.asarray(small))
    return Fitted(_place(ink, target.shape, MNIST_BOX), _in_first_size(found, small, picture, reduced))


def _auto(picture: Image.Image, target: Target, reduced: float) -> Fitted:
    """Ink, or what is shown, as light or as dark as in the training images, and with their margins.

    A picture of the model's size is not changed. In others a digit is placed as `digit` does, in the training images'
    box. Where these have no margins, what is shown on a background of one level is scaled to the edges. All else is
    resized, and inverted if its edge is nearer to the other end of the scale than the model's background.
    """
    height, width = target.shape
    if picture.size == (width, height):
        return Fitted(_resize(picture, target.shape, target.background))
    small = _small(picture)
    grey = np.asarray(small)
    if target.box < _FULL_BOX:
        try:
            ink, found = find_digit(grey)
            image = _on(target.background, _place(ink, target.shape, target.box))
            return Fitted(image, _in_first_size(found, small, picture, reduced))
        except UnusablePicture:
            pass
    low, level, high = border_levels(grey)
    inverts = (level < 128) != (target.background < 128)
    if target.box >= _FULL_BOX and high - low < _EVEN:
        small = _cropped(small, np.abs(grey - np.float32(level)) > _EVEN)
    image = _resize(small, target.shape, 255 - target.background if inverts else target.background)
    return Fitted(255 - image if inverts else image)


def _cropped(picture: Image.Image, shown: npt.NDArray[np.bool_]) -> Image.Image:
    """The part of a picture that is `shown`, bool [h, w]; all of it where nothing is."""
    rows, columns = (np.flatnonzero(shown.any(axis=axis)).tolist() for axis in (1, 0))
    return picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)) if rows else picture


def _on(background: int, ink: Images) -> Images:
    """Ink, uint8, as an image on this background: towards white if it is dark, else towards black."""
    if background == 0:
        return ink
    end = 255 if background < 128 else 0
    return np.rint(background + (end - background) * (ink / np.float32(255))).astype(np.uint8)


def _small(picture: Image.Image) -> Image.Image:
    """The picture in mode L, small enough to search in it.

    A transparent drawing is put over white if its ink is dark, otherwise over black.
    """
    picture = _scale(picture, min(1.0, SEARCH_SIDE / max(picture.size)))
    paper = 0
    if picture.mode == "RGBA":
        drawing = np.asarray(picture.convert("LA"), np.float32)
        weight = drawing[..., 1].sum(dtype=np.float64)
        dark = weight and (drawing[..., 0] * drawing[..., 1]).sum(dtype=np.float64) < 128 * weight
        paper = 255 if dark else 0
    return _flatten(picture, "L", paper)


def _in_first_size(found: Found, small: Image.Image, picture: Image.Image, reduced: float) -> Found:
    """The place of what was found in the `small` picture, in pixels of the picture as it was sent."""
    across, down = (reduced * whole / part for whole, part in zip(picture.size, small.size, strict=True))
    left, top, right, bottom = found.box
    return replace(found, box=(round(left * across), round(top * down), round(right * across), round(bottom * down)))


def _place(ink: Floats, shape: tuple[int, ...], box: float) -> Images:
    """A digit, float32 [h, w] in [0, 1], in the way of MNIST: white on black, uint8 of `shape`.

    It is scaled to fit into a box of this share of each side, and moved so that its centre of mass is the centre of the
    image (LeCun, Cortes, Burges: The MNIST database of handwritten digits). In MNIST's own images the centre is pixel
    14, counted from 0: on average 13.99 down and 14.01 across.
    """
    rows, columns = (np.flatnonzero((ink >= _DIGIT_INK).any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = shape
    factor = min(height * box / ink.shape[0], width * box / ink.shape[1])
    digit = np.asarray(_scale(Image.fromarray(np.rint(ink * 255).astype(np.uint8)), factor))
    digit = np.rint(digit * (255 / int(digit.max()))).astype(np.uint8)

    field = np.zeros(shape, np.uint8)
    top, left = (_start(digit, axis, side) for axis, side in enumerate(shape))
    field[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return field


def _start(digit: Images, axis: int, side: int) -> int:
    """The start of the digit along `axis` that places its centre of mass on the middle pixel, if there is room."""
    mass = digit.sum(axis=1 - axis, dtype=np.float64)
    centre = float(mass @ np.arange(len(mass))) / float(mass.sum())
    return min(max(round(side / 2 - centre), 0), side - len(mass))


def size(shape: Sequence[int]) -> str:
    """A shape, [H, W] or [H, W, 3], as people write it, width by height: 28x28 L."""
    return f"{shape[1]}x{shape[0]} {_mode(shape)}"
