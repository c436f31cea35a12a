"""Connected components of a mask, found through its runs: in NumPy, in a few milliseconds for half a megapixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# A mask of more runs than this is texture. It bounds the time and the memory of `components`.
MOST_RUNS: Final = 16_384


@dataclass(slots=True)
class Components:
    """The 8-connected components of a mask [h, w], numbered 0..N-1, the largest mass first.

    `area` int64 [N] in pixels; `mass` float64 [N], the sum of the weights; `box` int64 [N, 4]: left, top, right and
    bottom, the last two exclusive.
    """

    shape: tuple[int, int]
    area: Ints
    mass: npt.NDArray[np.float64]
    box: Ints
    _start: Ints
    _end: Ints
    _label: Ints

    def mask(self, chosen: npt.NDArray[np.bool_]) -> Mask:
        """The pixels, bool [h, w], of the components that are true in `chosen`, bool [N]."""
        runs = chosen[self._label]
        height, width = self.shape
        steps = np.zeros(height * (width + 1), np.int8)
        steps[self._start[runs]] = 1
        steps[self._end[runs]] = -1
        filled: Mask = np.cumsum(steps, dtype=np.int8).astype(bool)
        return filled.reshape(height, width + 1)[:, :width]


def components(mask: Mask, weights: Floats) -> Components | None:
    """The components of a mask [h, w] that weigh `weights` [h, w]; None when it has more than MOST_RUNS runs.

    Runs of one row that touch runs of the row above are joined by hooking each root to the smaller one and halving the
    paths (Shiloach and Vishkin, An O(log n) Parallel Connectivity Algorithm, 1982).
    """
    height, width = mask.shape
    stride = width + 1  # an empty column between rows, so that no run goes on in the next one
    flat = np.zeros(height * stride + 1, np.int8)
    flat[1:].reshape(height, stride)[:, :width] = mask
    edges = np.flatnonzero(np.diff(flat))  # where runs begin and end, in turns
    start, end = edges[::2], edges[1::2]
    if len(start) > MOST_RUNS:
        return None
    label = _join(start, end, stride)

    inside = np.zeros(height * stride + 1, np.float64)
    weighted = np.zeros((height, stride), np.float32)
    weighted[:, :width] = weights
    np.cumsum(weighted.reshape(-1), dtype=np.float64, out=inside[1:])
    count = int(label.max(initial=-1)) + 1
    mass: npt.NDArray[np.float64] = np.bincount(label, inside[end] - inside[start], count).astype(np.float64)
    order = np.argsort(-mass, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    label = rank[label]
    area = np.bincount(label, end - start, count).astype(np.int64)
    row, left, right = start // stride, start % stride, end - start // stride * stride
    box = np.empty((count, 4), np.int64)
    box[:, :2], box[:, 2:] = (width, height), 0
    np.minimum.at(box[:, 0], label, left)
    np.minimum.at(box[:, 1], label, row)
    np.maximum.at(box[:, 2], label, right)
    np.maximum.at(box[:, 3], label, row + 1)
    return Components((height, width), area, mass[order], box, start, end, label)


def _join(start: Ints, end: Ints, stride: int) -> Ints:
    """The number of each run's component, 0 to their count - 1."""
    # A run touches those of the row above that end at or after its start and start at or before its end.
    first = np.searchsorted(end, start - stride, "left")
    last = np.searchsorted(start, end - stride, "right")
    touching = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(start)), touching)
    above = np.arange(len(below)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    root = np.arange(len(start))
    while True:
        one, other = root[below], root[above]
        if np.array_equal(one, other):
            break
        smaller = np.minimum(one, other)
        np.minimum.at(root, one, smaller)
        np.minimum.at(root, other, smaller)
        while not np.array_equal(root, halved := root[root]):
            root = halved
    return np.unique(root, return_inverse=True)[1].astype(np.int64)
