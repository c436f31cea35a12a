"""How alike two sets of images are, by their features: the Frechet distance, and improved precision and recall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training import parallel

NEIGHBOUR: Final = 3  # the radius around an image is the distance to its third nearest neighbour
MOST: Final = 10_000  # images of a set that precision and recall look at, the first ones
CHUNK: Final = 500  # rows of a matrix of distances: 20 MB for each thread

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def frechet_distance(one: Array, other: Array) -> float:
    """The Frechet distance between Gaussians with the moments of two sets of features, [N, F] and [M, F].

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017, GANs Trained by a Two
    Time-Scale Update Rule). It is not the FID, which is defined by the features of Inception-v3, a network for
    photographs. The eigenvalues of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2), whose square roots are real.
    """
    means = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    first, second = (np.cov(features, rowvar=False, dtype=np.float64) for features in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots.sum())


@dataclass(frozen=True, slots=True)
class Manifold:
    """What a set of images covers: balls around its features [N, F], with `squared_radii` [N], float32.

    Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models,
    https://arxiv.org/abs/1904.06991, with k = 3. Of at most 10,000 images, the first ones.

        Manifold.of(real).share_of(samples)     # precision: the share of samples that look real
        Manifold.of(samples).share_of(real)     # recall: the share of real images that could be samples
    """

    features: Floats
    squared_radii: Floats

    @classmethod
    def of(cls, features: Floats) -> Manifold:
        """The manifold of features [N, F], float32."""
        features = features[:MOST]
        nearest = min(NEIGHBOUR, len(features) - 1)  # an image is its own nearest neighbour, with index 0

        def radii(start: int, squares: Floats) -> Floats:
            rows = np.arange(len(squares))
            squares[rows, start + rows] = -1  # whatever rounding has made of 0
            found: Floats = np.partition(squares, nearest, axis=1)[:, nearest]
            return found

        return cls(features, np.concatenate(_by_rows(features, features, radii)))

    def share_of(self, others: Floats) -> float:
        """The share of features [M, F] that lie in at least one ball, 0 to 1."""

        def inside(_: int, squares: Floats) -> Array:
            found: Array = np.any(squares <= self.squared_radii, axis=1)
            return found

        return float(np.concatenate(_by_rows(others[:MOST], self.features, inside)).mean())


def _by_rows(one: Floats, other: Floats, function: Callable[[int, Floats], Array]) -> list[Array]:
    """What `function` makes of the squared distances from rows of `one` [N, F] to `other` [M, F], some rows at a time.

    It gets the number of the first row and the distances, float32 [at most 500, M], which it may change.
    """
    middle = other.mean(0)  # without it, large features would leave few digits to the differences
    first, second = one - middle, other - middle
    lengths = np.square(second).sum(1)

    def chunk(start: int) -> Array:
        rows = first[start : start + CHUNK]
        squares = rows @ second.T
        squares *= -2
        squares += np.square(rows).sum(1)[:, None]
        squares += lengths
        return function(start, squares)

    return list(parallel.ordered(chunk, range(0, len(first), CHUNK)))
