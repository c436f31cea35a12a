"""The aggregate prior: where the codes of the training images lie, as a mixture of Gaussians for each label.

N(0, I) is only what the codes were drawn towards; where they really lie is what the decoder has learned to read
(Hoffman & Johnson 2016, ELBO surgery; Tomczak & Welling 2018, VAE with a VampPrior). After the training a mixture is
fitted to the mu of the training images (Ghosh et al. 2020, From Variational to Deterministic Autoencoders, section 4).
Not to draws from their posteriors: what `/reconstruct` decodes is mu, and noise that goes into the fit comes out again
in the samples.

The service reads the result, `prior.npz`, and samples in NumPy; so does evaluation, by the same two streams of random
numbers: a test holds one against the other.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from service import contract

FIT_SEED: Final = 0
ITERATIONS: Final = 100
# Added to each variance: codes that hardly differ in a direction, of a latent not in use, still make a Gaussian.
LEAST_VARIANCE: Final = 1e-4

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prior:
    """A mixture of K Gaussians over L latents for each of G labels.

    `labels` int64 [G]; `shares` [G], each label's part of the images; `weights` [G, K], `means` [G, K, L] and
    `cholesky` [G, K, L, L], lower triangular, float32.
    """

    labels: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    cholesky: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, z: Array, labels: Array, components: int) -> Prior:
        """The mixtures of highest likelihood, by expectation maximisation, for codes z [N, L] with their labels [N].

        A label with fewer codes than `components` gets a Gaussian for each code at most, the others without weight.
        """
        known, counts = np.unique(labels, return_counts=True)
        fitted = [_fit_one(z[labels == label].astype(np.float64), components) for label in known]
        weights, means, cholesky = (np.stack(arrays).astype(np.float32) for arrays in zip(*fitted, strict=True))
        return cls(known.astype(np.int64), (counts / counts.sum()).astype(np.float32), weights, means, cholesky)

    def draw(self, count: int, seed: int, label: int | None = None) -> npt.NDArray[np.float32]:
        """Draws from the mixture of all labels, or of one: float32 [count, L], the same as the service's."""
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
        z: npt.NDArray[np.float32] = means.reshape(-1, latents)[component] + away
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
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return cls(*(file[name] for name in contract.PRIOR_ARRAYS))


def _fit_one(z: npt.NDArray[np.float64], components: int) -> tuple[Array, Array, Array]:
    """Weights [K], means [K, L] and Cholesky factors [K, L, L] for the codes of one label, float64 [N, L]."""
    fitted = min(components, len(z))
    mixture = GaussianMixture(
        fitted,
        covariance_type="full",
        reg_covar=LEAST_VARIANCE,
        max_iter=ITERATIONS,
        random_state=FIT_SEED,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last steps change nothing that can be seen
        if len(z) > 1:
            mixture.fit(z)
            weights, means, covariances = mixture.weights_, mixture.means_, mixture.covariances_
        else:
            weights, means, covariances = np.ones(1), z, LEAST_VARIANCE * np.eye(z.shape[1])[None]
    missing = components - fitted
    return (
        np.pad(weights, (0, missing)),
        np.pad(means, ((0, missing), (0, 0))),
        np.pad(np.linalg.cholesky(covariances), ((0, missing), (0, 0), (0, 0))),
    )
