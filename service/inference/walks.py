"""Walks in latent space: from point to point (`Interpolation`), and along single latents (`Traversal`).

A walk takes points, float32 [N, L], and gives the latents z of its frames, float32 [F, L]. Everything is computed in
float64 and rounded once, each frame from its own points alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
WalkPath = Literal["linear", "spherical"]

# Two directions whose angle has a sine below this do not say in which plane they lie: the rest is rounding.
_LEAST_SINE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Interpolation:
    """A walk from each point to the next, in `steps` frames, both points included; `steps` is at least 2.

    `linear` is the straight line. `spherical` turns the direction from one point to the other on a great circle at a
    constant speed (slerp: Shoemake, Animating Rotation with Quaternion Curves, 1985), and changes the
    length evenly. So it keeps the distance from the origin at which latents of N(0, I) lie, where the line between two
    of them comes nearer to the origin (White, Sampling Generative Networks, 2016). No frame is farther
    from the origin than the farther one of its two points. For two special pairs this is not a definition yet:

    - From a point to its opposite every great circle is equally short. The one towards the axis of the latent that is
      smallest in magnitude is taken, of equal ones the first.
    - The origin has no direction, and with a single latent there is no circle. There `spherical` is the line.
    """

    steps: int
    path: WalkPath

    def frames(self, points: int) -> int:
        """The number of frames for so many points. The points themselves are frames, each once."""
        return (points - 1) * (self.steps - 1) + 1

    def origin(self, frame: int) -> int:
        """The index of the last point at or before a frame."""
        return frame // (self.steps - 1)

    def place(self, points: Floats) -> Floats:
        """The latents z of the frames, float32 [F, L], in order. The given points occur in it bit for bit."""
        between = _spherical if self.path == "spherical" and points.shape[1] > 1 else _linear
        t = np.arange(self.steps - 1) / (self.steps - 1)
        doubles = points.astype(np.float64)
        z = np.empty((self.frames(len(points)), points.shape[1]), np.float32)
        z[:-1] = between(doubles[:-1], doubles[1:], t[:, None]).reshape(-1, points.shape[1])
        z[:: self.steps - 1] = points
        return z


@dataclass(frozen=True, slots=True)
class Traversal:
    """A walk along each of the latents `dims` of one point: that latent takes `steps` values from `low` to `high`.

    The values are evenly spaced, and both ends are among them; `steps` is at least 2. All other latents stay.
    """

    dims: tuple[int, ...]
    low: float
    high: float
    steps: int

    @property
    def values(self) -> Floats:
        """The values that each latent takes: float32 [steps]."""
        return np.linspace(self.low, self.high, self.steps).astype(np.float32)

    def frames(self, points: int) -> int:
        """The number of frames: one row of `steps` for each latent of each point."""
        return points * len(self.dims) * self.steps

    def origin(self, frame: int) -> int:
        """The index of the point that a frame is made of."""
        return frame // (len(self.dims) * self.steps)

    def place(self, points: Floats) -> Floats:
        """The latents z of the frames, float32 [F, L]: row by row, a row for each latent of `dims`."""
        z = np.tile(points[:, None, None], (1, len(self.dims), self.steps, 1))
        for row, dim in enumerate(self.dims):
            z[:, row, :, dim] = self.values
        return z.reshape(-1, points.shape[1])


Walk = Interpolation | Traversal


def _linear(start: Doubles, end: Doubles, t: Doubles) -> Doubles:
    """The frames at t [S, 1] between each of start and end [M, L]: [M, S, L]."""
    return (1 - t) * start[:, None] + t * end[:, None]


def _spherical(start: Doubles, end: Doubles, t: Doubles) -> Doubles:
    """The same on great circles: |z| (cos(t angle) u + sin(t angle) w), u the direction of start, w at right angles."""
    start_length, end_length = _length(start), _length(end)  # [M, 1]
    u = start / np.where(start_length == 0, 1, start_length)
    v = end / np.where(end_length == 0, 1, end_length)
    cosine = (u * v).sum(1, keepdims=True)
    w = v - cosine * u
    sine = _length(w)
    unclear = sine[:, 0] < _LEAST_SINE
    if unclear.any():
        axis = np.eye(u.shape[1])[np.abs(u[unclear]).argmin(1)]
        w[unclear] = axis - (axis * u[unclear]).sum(1, keepdims=True) * u[unclear]
    w /= _length(w)
    angle = t * np.arctan2(sine, cosine)[:, None]  # [M, S, 1]
    z: Doubles = _linear(start_length, end_length, t) * (np.cos(angle) * u[:, None] + np.sin(angle) * w[:, None])
    straight = ((start_length == 0) | (end_length == 0))[:, 0]
    if straight.any():
        z[straight] = _linear(start[straight], end[straight], t)
    return z


def _length(vectors: Doubles) -> Doubles:
    """Euclidean lengths, [M, 1]."""
    length: Doubles = np.sqrt(np.square(vectors).sum(1, keepdims=True))
    return length
