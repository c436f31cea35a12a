"""Find the one digit in a photo, a scan or a drawing, or say what is there instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from service.images.components import Components, Mask, components
from service.images.ink import Floats, Ink, Levels, find_ink

# Ink and paper differ by at least this many grey levels, and by this many standard deviations of the noise.
_LEAST_CONTRAST: Final = 24
_LEAST_SIGNAL: Final = 6
# Strokes have at least this share of the strongest ink; printed lines have less.
_STROKE: Final = 0.5
# Beside a stroke, ink counts from this share of the stroke's own on. In a scan or a drawing all of it does.
_FAINT: Final = 0.15
# A mark in a corner needs so much more ink than one in the middle: exp(-1.5 * 2) = 1 / 20. At the edge of the picture a
# mark counts a fifth.
_CENTRALITY: Final = 1.5
_AT_EDGE: Final = 0.2
# Pieces of one digit are no farther apart than this share of its longer side, and have this share of its pixels.
_GAP: Final = 0.17
_PIECE: Final = 0.02

# What a digit is, measured on photos of MNIST's digits (python -m bench.photos). Lengths are in shares of its longer
# side, that of the picture's shorter side is for the digit itself.
_LEAST_SIDE: Final = 0.06
_THICKEST: Final = 0.3  # MNIST's own have at most 0.26
_LEAST_FORM: Final = 12  # pixels; less is a dot, thick or not
_MOST_PIECES: Final = 5
_MOST_INSIDE: Final = 1  # pieces within the box of the largest one; a face has more
_MOST_HOLES: Final = 2  # an 8
_MOST_SMALL_HOLES: Final = 5
_LEAST_SHARE: Final = 0.5  # of all ink
_MOST_MARKS: Final = 12
_LEAST_EVEN: Final = 0.75  # the weaker and the stronger ink of its strokes, in multiples of the usual
_MOST_EVEN: Final = 1.25
_MOST_STEPS: Final = 2.2  # length of edges of the paper around it

_NOTHING: Final = "There is no ink in the picture."
_STANDS_OUT: Final = "What stands out most in the picture"


class UnusablePicture(ValueError):
    """A picture cannot be used. The message is written for clients; the messages of Pillow's exceptions are not."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where in a picture the digit is: `box` is left, top, right and bottom in pixels, the last two exclusive.

    `confidence`, in [0, 1], is the digit's share of all ink in the picture times the share of its own that has a clear
    outline.
    """

    box: tuple[int, int, int, int]
    confidence: float


@dataclass(slots=True)
class _Marks:
    """A group of marks: its `mask` [h, w] within the picture, its box, and its mean stroke width in pixels."""

    mask: Mask
    box: tuple[int, int, int, int]
    width: float

    @property
    def side(self) -> int:
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    def around(self, share: float) -> tuple[slice, slice]:
        """The box, made larger on each side by this share of its longer side."""
        left, top, right, bottom = self.box
        more = round(share * self.side)
        return slice(max(0, top - more), bottom + more), slice(max(0, left - more), right + more)


def find_digit(grey: Levels) -> tuple[Floats, Found]:
    """The ink of the digit in a picture, uint8 [h, w]: float32 in [0, 1], cropped to it, and where that is.

    Raises UnusablePicture, with what the picture shows instead, when there is no digit.
    """
    ink = find_ink(grey)
    parts = _strong_parts(ink)
    main, at_edge = _main_part(parts)
    if at_edge and ink.paper is not None:
        raise UnusablePicture(f"{_STANDS_OUT} is cut off by the picture's edge.")
    chosen = _group(parts, main)
    marks = _measure(parts, chosen)
    _check_parts(parts, main, chosen, marks)
    level = np.float32(np.percentile(ink.amount[marks.mask], 60))
    reach = max(1, round(marks.width))
    near = marks.around((reach + 1) / marks.side)
    own = Image.fromarray(marks.mask[near]).convert("L").filter(ImageFilter.BoxBlur(reach))
    amount = ink.amount[near] / level * (np.asarray(own) > 0)
    sharpness = _check_paper(ink, marks, float(level), float(np.count_nonzero(amount > 0.3)))
    if ink.paper is not None:
        amount = (amount - np.float32(_FAINT)) / np.float32(1 - _FAINT)
    share = float(parts.mass[chosen].sum() / parts.mass.sum())
    return amount.clip(0, 1), Found(marks.box, round(float(share * sharpness), 3))


def _strong_parts(ink: Ink) -> Components:
    """The marks with strong ink: strokes, but neither printed lines nor faint shadows."""
    amount = ink.amount
    if ink.paper is not None:  # the strongest ink must be as wide as a stroke
        amount = _narrowed(amount, max(1, round(min(amount.shape) / 128)))
    peak = float(amount.max())
    if peak < max(_LEAST_CONTRAST, _LEAST_SIGNAL * ink.noise):
        raise UnusablePicture(_NOTHING)
    parts = components(ink.amount >= _STROKE * peak, ink.amount)
    if parts is None:
        raise UnusablePicture("The picture is a texture all over; there is no digit in it.")
    return parts


def _narrowed(amount: Floats, size: int) -> Floats:
    """The least of each square of `size` pixels: lines that are narrower vanish."""
    for axis in (0, 1):
        along = np.moveaxis(amount, axis, 0)
        least = along[size - 1 :].copy()
        for start in range(size - 1):
            np.minimum(least, along[start : start + len(least)], out=least)
        amount = np.moveaxis(least, 0, axis)
    return amount


def _main_part(parts: Components) -> tuple[int, bool]:
    """The largest central mark, and whether it reaches the edge of the picture."""
    height, width = parts.shape
    middle = np.array([width, height]) / 2
    off = (parts.box[:, :2] + parts.box[:, 2:]) / 2 / middle - 1
    at_edge = (parts.box[:, :2] == 0).any(axis=1) | (parts.box[:, 2:] == (width, height)).any(axis=1)
    score = parts.mass * np.exp(-_CENTRALITY * (off**2).sum(axis=1)) * np.where(at_edge, _AT_EDGE, 1)
    main = int(score.argmax())
    return main, bool(at_edge[main])


def _group(parts: Components, main: int) -> npt.NDArray[np.bool_]:
    """The mark and all that are near it, near those, and so on: bool [N]."""
    large = parts.area >= _PIECE * parts.area[main]
    chosen: npt.NDArray[np.bool_] = np.arange(len(parts.area)) == main
    while True:
        boxes = parts.box[chosen]
        start, end = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        gap = _GAP * (end - start).max()
        near = large & (parts.box[:, :2] <= end + gap).all(axis=1) & (parts.box[:, 2:] >= start - gap).all(axis=1)
        if not (near & ~chosen).any():
            return chosen
        chosen |= near


def _measure(parts: Components, chosen: npt.NDArray[np.bool_]) -> _Marks:
    boxes = parts.box[chosen]
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    mask = parts.mask(chosen)
    framed = np.pad(mask[top:bottom, left:right], 1)
    steps = np.count_nonzero(framed[1:] != framed[:-1]) + np.count_nonzero(framed[:, 1:] != framed[:, :-1])
    # A circle's outline has 4 / pi times as many steps between pixels as its length. A stroke has two sides.
    outline = steps * np.pi / 4
    return _Marks(mask, (left, top, right, bottom), float(2 * np.count_nonzero(framed) / outline))


def _check_parts(parts: Components, main: int, chosen: npt.NDArray[np.bool_], marks: _Marks) -> None:
    """Raise UnusablePicture unless the chosen marks have the form of a digit, and stand alone."""
    left, top, right, bottom = marks.box
    large = parts.area >= _PIECE * parts.area[main]
    if marks.side < _LEAST_SIDE * min(parts.shape):
        raise UnusablePicture("There are only specks in the picture, no digit.")
    if marks.side >= _LEAST_FORM and marks.width > _THICKEST * marks.side:
        raise UnusablePicture(f"{_STANDS_OUT} is a solid shape, not a digit.")
    share = parts.mass[chosen].sum() / parts.mass.sum()
    if large.sum() > _MOST_MARKS or (large & chosen).sum() > _MOST_PIECES or share < _LEAST_SHARE:
        raise UnusablePicture("There are many marks in the picture, and none of them stands out as a digit.")
    own = parts.box[main]
    inside = large & (parts.box[:, :2] > own[:2]).all(axis=1) & (parts.box[:, 2:] < own[2:]).all(axis=1)
    empty = ~np.pad(marks.mask[top:bottom, left:right], 1)
    holes = components(empty, np.ones(empty.shape, np.float32))
    sizes = holes.area[1:] / empty.size if holes is not None else np.ones(_MOST_HOLES + 1)  # without what is outside
    if inside.sum() > _MOST_INSIDE or (sizes >= 0.01).sum() > _MOST_HOLES or (sizes >= 0.001).sum() > _MOST_SMALL_HOLES:
        raise UnusablePicture(f"{_STANDS_OUT} is a drawing of many parts, not a digit.")


def _check_paper(ink: Ink, marks: _Marks, level: float, inked: float) -> float:
    """The share of the ink that has a clear outline, in [0, 1].

    `level` is the usual amount of ink in a stroke; `inked` pixels on the strokes and beside them have some of it.
    Raises UnusablePicture when the marks in a photo are not strokes on paper.
    """
    spread = inked / np.count_nonzero(marks.mask)
    sharpness = min(1.0, 1 / spread)
    if ink.paper is None:
        return sharpness
    weaker, stronger = np.percentile(ink.amount[marks.mask], (30, 90)) / level
    if weaker < _LEAST_EVEN or stronger > _MOST_EVEN:
        raise UnusablePicture(f"{_STANDS_OUT} is not drawn with one pen, so it is not taken for a digit.")
    # Blur makes an outline about a pixel wide on each side of the stroke.
    if spread > 1.2 + 2 / marks.width:
        raise UnusablePicture(f"{_STANDS_OUT} has no clear outline, like a shadow; there is no digit.")
    paper = ink.paper[marks.around(0.12)]
    steps = sum(np.count_nonzero(np.abs(edge) > 0.2 * level) for edge in (paper[3:] - paper[:-3], _across(paper)))
    if steps > _MOST_STEPS * 3 * marks.side:
        raise UnusablePicture(f"{_STANDS_OUT} is not on paper of one colour, so it is not taken for a digit.")
    return sharpness


def _across(paper: Floats) -> Floats:
    """Differences over three columns."""
    return paper[:, 3:] - paper[:, :-3]
