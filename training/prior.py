"""The aggregate prior: a mixture of Gaussians for each label, fitted to the codes of the training images.

Training pulls the codes towards N(0, I), but they do not fill it evenly. The decoder has learned to decode the places
where codes are (Hoffman & Johnson 2016, ELBO surgery; Tomczak & Welling 2018, VAE with a VampPrior). Therefore a
mixture is fitted to the mu of the training images after the training (Ghosh et al. 2020, From Variational to
Deterministic Autoencoders, section 4). It is fitted to mu and not to draws from the posteriors, because
`/reconstruct` decodes mu, and noise in the fitted codes would become noise in the samples.

The service reads the result, `prior.npz`, and samples in NumPy. Evaluation samples by the same two streams of random
numbers. A test compares the two.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from service import contract
from training import mixture, parallel

FIT_SEED: Final = 0
# Added to each variance. Codes that are equal in a direction, as in a latent that is not in use, still make a Gaussian.
LEAST_VARIANCE: Final = 1e-4

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prior:
    """A mixture of K Gaussians over L latents for each of G labels.

    `labels` int64 [G]; `shares` [G], each label's share of the images; `weights` [G, K], `means` [G, K, L] and
    `cholesky` [G, K, L, L], lower triangular, float32.
    """

    labels: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    cholesky: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, z: Array, labels: Array, components: int, advance: Callable[[int], None] = lambda _: None) -> Prior:
        """Fit a mixture of `components` Gaussians to the codes z [N, L] of each label in labels [N].

        A label with fewer codes than `components` gets one Gaussian for each code, and the other Gaussians get weight
        0. `advance` is called with 1 for each label that is done.
        """
        known, counts = np.unique(labels, return_counts=True)
        codes = (z[labels == label].astype(np.float64) for label in known)
        fitted = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of k-means, where points are equal
            for one in parallel.ordered(lambda each: _fit_one(each, components), codes):
                fitted.append(one)
                advance(1)
        weights, means, cholesky = (np.stack(arrays).astype(np.float32) for arrays in zip(*fitted, strict=True))
        return cls(known.astype(np.int64), (counts / counts.sum()).astype(np.float32), weights, means, cholesky)

    def draw(
        self, count: int, seed: int, label: int | None = None, temperature: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """Draws from the mixture of one label, or of all: float32 [count, L], equal to the service's draws."""
        if label is None:
            weights, means, cholesky = (self.shares[:, None] * self.weights), self.means, self.cholesky
        else:
            chosen = self.labels == label
            weights, means, cholesky = self.weights[chosen], self.means[chosen], self.cholesky[chosen]
        latents = means.shape[-1]
        noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latents), np.float32)
        choice = np.random.Generator(np.random.PCG64(seed).jumped()).random(count)
        edges = np.cumsum(weights.reshape(-1), dtype=np.float64)[:-1]
        component = np.searchsorted(edges, choice, side="right")
        away = np.einsum("nij,nj->ni", cholesky.reshape(-1, latents, latents)[component], noise)
        z: npt.NDArray[np.float32] = means.reshape(-1, latents)[component] + np.float32(temperature) * away
        return z

    def to_bytes(self) -> bytes:
        """The file prior.npz; equal priors give equal bytes."""
        file = io.BytesIO()
        arrays: dict[str, Array] = {
            contract.PRIOR_LABELS: self.labels,
            contract.PRIOR_SHARES: self.shares,
            contract.PRIOR_WEIGHTS: self.weights,
            contract.PRIOR_MEANS: self.means,
            contract.PRIOR_CHOLESKY: self.cholesky,
        }
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Prior:
        """The prior that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return cls(*(file[name] for name in contract.PRIOR_ARRAYS))


def _fit_one(z: npt.NDArray[np.float64], components: int) -> tuple[Array, Array, Array]:
    """Weights [K], means [K, L] and Cholesky factors [K, L, L] for the codes of one label, float64 [N, L]."""
    fitted = min(components, len(z))
    if len(z) > 1:
        found = mixture.fit(z, fitted, LEAST_VARIANCE, FIT_SEED)
    else:
        found = mixture.Mixture(np.ones(1), z, LEAST_VARIANCE * np.eye(z.shape[1])[None])
    missing = components - fitted
    return (
        np.pad(found.weights, (0, missing)),
        np.pad(found.means, ((0, missing), (0, 0))),
        np.pad(np.linalg.cholesky(found.covariances), ((0, missing), (0, 0), (0, 0))),
    )
