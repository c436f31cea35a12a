"""How much ink is in each pixel of a page, whatever the light: how far it is from the paper around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]

# The level of the paper is looked for within this share of the shorter side. It is wider than strokes.
_WINDOW: Final = 0.22
# A picture whose edge has at most this spread of grey levels may be a scan or a drawing, with paper of one level.
_EVEN: Final = 24
# A photo has at least this many pixels a side. What is smaller has too few to tell light from paper.
_PHOTO_SIDE: Final = 96
# Ink is darker by fewer levels where there is less light, and is brought out in proportion; but not where the surface
# is darker than this share of the brightest: that is another one, not paper in the shade.
_DARKEST_PAPER: Final = 0.3
# Polarity is found in a picture of at most this many pixels a side, without this share of it at each edge, where the
# table may be. The window is narrower there, too, so that fewer shadows are taken for ink.
_POLARITY_SIDE: Final = 128
_POLARITY_MARGIN: Final = 0.15
_POLARITY_WINDOW: Final = 0.15


@dataclass(slots=True)
class Ink:
    """`amount` float32 [h, w], from 0: how many grey levels a pixel is from the paper, in the direction of ink.

    `paper` float32 [h, w] is the level of the paper under each pixel; None in a scan or a drawing, where it is the same
    everywhere. `noise` is the standard deviation of the amount where there is no ink.
    """

    amount: Floats
    paper: Floats | None
    noise: float


def find_ink(grey: Levels) -> Ink:
    """The ink on a page, uint8 [h, w]. It may be darker or lighter than the paper."""
    low, level, high = border_levels(grey)
    if high - low < _EVEN and _has_one_paper(grey):
        darker, lighter = level - int(grey.min()), int(grey.max()) - level
        amount = grey.astype(np.float32) - np.float32(level)
        return Ink((amount if lighter > darker else -amount).clip(0), None, 0)
    lighter = _is_lighter(grey)
    page = np.asarray(Image.fromarray(255 - grey if lighter else grey).filter(ImageFilter.BoxBlur(1)))
    paper = _without_dark(page, _WINDOW).astype(np.float32)
    amount = paper - page
    if not lighter:
        brightest = np.float32(np.percentile(paper[::3, ::3], 95))
        amount *= brightest / np.maximum(paper, _DARKEST_PAPER * brightest)
    some = amount[::3, ::3]  # enough for a median, in a ninth of the time
    amount -= np.median(some)
    noise = 1.4826 * float(np.median(np.abs(some)))  # from the median absolute deviation of a Gaussian
    return Ink(amount.clip(0), paper, noise)


def border_levels(grey: Levels) -> tuple[float, float, float]:
    """The 10th, 50th and 90th percentile of the grey levels along the edge of a picture, uint8 [h, w]."""
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    low, level, high = np.percentile(edge, (10, 50, 90)).tolist()
    return low, level, high


def _has_one_paper(grey: Levels) -> bool:
    return min(grey.shape) < _PHOTO_SIDE or int(np.bincount(grey.reshape(-1), minlength=256).max()) > grey.size // 2


def _is_lighter(grey: Levels) -> bool:
    """Whether the ink is lighter than the paper. The page without its ink is the smoother one of the two guesses."""
    small = Image.fromarray(grey)
    small.thumbnail((_POLARITY_SIDE, _POLARITY_SIDE), Image.Resampling.BOX)
    levels = np.asarray(small)
    top, left = (round(_POLARITY_MARGIN * side) for side in levels.shape)
    middle = np.s_[top : levels.shape[0] - top, left : levels.shape[1] - left]
    dark, light = (_variation(_without_dark(page, _POLARITY_WINDOW)[middle]) for page in (levels, 255 - levels))
    return dark > light


def _variation(levels: Levels) -> int:
    """The total variation: the sum of all differences between neighbours."""
    signed = levels.astype(np.int16)
    return sum(int(np.abs(np.diff(signed, axis=axis)).sum()) for axis in (0, 1))


def _without_dark(page: Levels, share: float) -> Levels:
    """The page, uint8 [h, w], without anything dark that is narrower than this share of the shorter side.

    A grey-scale closing by a square (Serra, Image Analysis and Mathematical Morphology, 1982): it leaves slopes of
    light and the edges of large surfaces as they are.
    """
    window = max(3, round(share * min(page.shape)) | 1)
    levels = np.pad(page, window // 2 * 2, mode="edge")
    for choose in (np.maximum, np.minimum):
        for axis in (0, 1):
            levels = _extremes(levels, window, axis, choose)
    return levels


def _extremes(levels: Levels, window: int, axis: int, choose: np.ufunc) -> Levels:
    """The largest or the smallest of each `window` values along an axis, in log2(window) steps; fewer come out."""
    along = np.moveaxis(levels, axis, 0)
    reach = 1
    while reach < window:
        step = min(reach, window - reach)
        along = choose(along[:-step], along[step:])
        reach += step
    return np.moveaxis(along, 0, axis)
