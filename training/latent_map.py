"""The map of a bundle: latents of test images in a plane, in map.json, for the playground to show and to decode.

The plane has the two directions that tell the labels apart best: linear discriminant analysis (Fisher 1936; Rao 1948),
the largest generalised eigenvectors of the covariance of the labels' means and the covariance within labels. Where
there are fewer than three labels it has the two directions in which mu varies most. With P [2, L] these directions and
C [L, L] the covariance of mu, a place p of the plane stands for the mean of the latents there, if they are normal:

    p = P (z - mean)        E[z | p] = mean + C P' (P C P')^-1 p
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service import contract
from training.data import Sets
from training.graphs import Graphs

# Points of the map, and numbers of all of them: 54 kB of JSON.
MOST_POINTS: Final = 2_000
MOST_NUMBERS: Final = 40_000

_LEVELS: Final = 127
_RIDGE: Final = 1e-6  # of the mean variance, for latents that never vary

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LatentMap:
    """What map.json says, as `service.contract` describes it, of L latents and N points.

    `mean` [L], `project` and `lift` [2, L], `scale` [L]; `mu` int8 [N, L], in units of `scale`; `labels` int [N].
    """

    mean: Doubles
    project: Doubles
    lift: Doubles
    scale: Doubles
    mu: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]

    @classmethod
    def measure(cls, graphs: Graphs, sets: Sets) -> LatentMap:
        """The map of the test images' mu. The directions are of all of them, the points are some, evenly chosen."""
        codes, _ = graphs.encode(sets.test_images)
        return cls.of(codes.numpy().astype(np.float64), sets.test_labels.numpy().astype(np.int64))

    @classmethod
    def of(cls, mu: Doubles, labels: npt.NDArray[np.int64]) -> LatentMap:
        """The map of mu [M, L] of images with these labels [M]."""
        mean = mu.mean(0)
        centred = mu - mean
        covariance = centred.T @ centred / len(mu)
        project = _directions(centred, covariance, labels)
        spread = np.sqrt((project @ covariance * project).sum(1, keepdims=True))
        project /= np.where(spread > 0, spread, 1)
        lift = (covariance @ project.T @ np.linalg.pinv(project @ covariance @ project.T)).T
        count = min(len(mu), MOST_POINTS, max(1, MOST_NUMBERS // mu.shape[1]))
        chosen = np.arange(count) * len(mu) // count
        largest = np.abs(mu[chosen]).max(0)
        scale = np.where(largest > 0, largest / _LEVELS, 1)
        return cls(mean, project, lift, scale, (mu[chosen] / scale).round().astype(np.int8), labels[chosen])

    def to_bytes(self) -> bytes:
        """The file map.json; equal maps give equal bytes."""
        document = {
            contract.MAP_MEAN: _numbers(self.mean),
            contract.MAP_PROJECT: [_numbers(axis) for axis in self.project],
            contract.MAP_LIFT: [_numbers(axis) for axis in self.lift],
            contract.MAP_SCALE: _numbers(self.scale),
            contract.MAP_MU: base64.b64encode(self.mu.tobytes()).decode(),
            contract.MAP_LABELS: self.labels.tolist(),
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _directions(centred: Doubles, total: Doubles, labels: npt.NDArray[np.int64]) -> Doubles:
    """The two directions of the plane, as rows [2, L]; the second of one latent is 0. `total` is the covariance."""
    latents = centred.shape[1]
    within = np.zeros_like(total)
    distinct = np.unique(labels)
    for label in distinct:
        own = centred[labels == label]
        own = own - own.mean(0)
        within += own.T @ own / len(centred)
    if len(distinct) < 3:
        within = np.eye(latents)
    ridge = _RIDGE * max(float(np.trace(within)) / latents, np.finfo(float).tiny)
    whiten = np.linalg.inv(np.linalg.cholesky(within + ridge * np.eye(latents)))
    # Of `total`, which is `within` and what is between labels together, the vectors are the same. They come rising.
    _, vectors = np.linalg.eigh(whiten @ total @ whiten.T)
    found = np.zeros((2, latents))
    best = vectors[:, ::-1][:, :2].T @ whiten
    # An eigenvector and its opposite are equally right: take the one whose largest entry is positive.
    best *= np.sign(best[np.arange(len(best)), np.abs(best).argmax(1)])[:, np.newaxis]
    found[: len(best)] = best
    return found


def _numbers(values: Doubles) -> list[float]:
    """With as many digits as the map needs."""
    return [float(f"{value:.5g}") for value in values]
