"""How likely the codes and the terms of an image are together, which decides how typical it is.

The codes of an image are its mu, and its terms are t = (log(1 + e), log(1 + r)): e is the squared error of the image
that is decoded from mu, for pixels in [-1, 1], and r the rate. The density is a mixture over the Gaussians of the
aggregate prior, each with a Gaussian of its own over the terms:

    p(mu, t) = sum_k w_k N(mu; m_k, C_k) N(t; n_k, S_k)        surprisal = -log p(mu, t), without the powers of 2 pi

The rate or the error alone is not enough: the codes of some images that are not of the data set are likely, and an
empty picture has a small error (Nalisnick et al. 2019, Do Deep Generative Models Know What They Don't Know?,
https://arxiv.org/abs/1810.09136). Here an error that is too small for its codes is as unlikely as one that is too
large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from training import parallel
from training.prior import Prior

# Each Gaussian's terms are fitted as if so many images of the whole training set belonged to it, too.
PSEUDO_COUNT: Final = 10.0
# Added to each variance of the terms, for data sets whose images are all the same.
LEAST_VARIANCE: Final = 1e-6
CHUNK: Final = 500  # images at a time: 20 MB for the largest shipped prior

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Density:
    """The mixture. `log_weights` [K], `means` [K, L] and `cholesky` [K, L, L] are those of the codes.

    `term_means`, float32 [K, 2], and `term_cholesky`, float32 [K, 2, 2], lower triangular, are those of the terms.
    """

    log_weights: Array
    means: Array
    cholesky: Array
    term_means: Floats
    term_cholesky: Floats

    @classmethod
    def of(cls, prior: Prior, term_means: Floats, term_cholesky: Floats) -> Density:
        """The density over the Gaussians of a prior. Those of weight 0 play no part."""
        latents = prior.means.shape[-1]
        weights = (prior.shares[:, None] * prior.weights).reshape(-1).astype(np.float64)
        used = weights > 0
        cholesky = np.where(used[:, None, None], prior.cholesky.reshape(-1, latents, latents), np.eye(latents))
        with np.errstate(divide="ignore"):
            log_weights = np.log(weights)
        return cls(
            log_weights, prior.means.reshape(-1, latents).astype(np.float64), cholesky, term_means, term_cholesky
        )

    @classmethod
    def fit(cls, prior: Prior, mu: Floats, terms: Array) -> Density:
        """Fit the Gaussians of the terms to images with codes mu [N, L] and terms [N, 2].

        An image counts for a Gaussian by the probability that its codes are of it.
        """
        components = prior.weights.size
        flat = cls.of(
            prior, np.zeros((components, 2), np.float32), np.tile(np.eye(2, dtype=np.float32), (components, 1, 1))
        )
        counts, sums, squares = np.zeros(components), np.zeros((components, 2)), np.zeros((components, 2, 2))
        products = terms[:, :, None] * terms[:, None, :]

        def shares(start: int) -> tuple[int, Array]:
            joint = flat.log_codes(mu[start : start + CHUNK])
            joint = np.exp(joint - joint.max(1, keepdims=True))
            return start, joint / joint.sum(1, keepdims=True)

        for start, share in parallel.ordered(shares, range(0, len(mu), CHUNK)):
            chunk = slice(start, start + CHUNK)
            counts += share.sum(0)
            sums += share.T @ terms[chunk]
            squares += np.einsum("nk,nij->kij", share, products[chunk])
        mean = terms.mean(0)
        spread = np.cov(terms.T, bias=True) + LEAST_VARIANCE * np.eye(2)
        weight = counts + PSEUDO_COUNT
        means = (sums + PSEUDO_COUNT * mean) / weight[:, None]
        second = squares + PSEUDO_COUNT * (spread + np.outer(mean, mean))
        covariances = second / weight[:, None, None] - means[:, :, None] * means[:, None, :]
        return replace(
            flat,
            term_means=means.astype(np.float32),
            term_cholesky=np.linalg.cholesky(covariances + LEAST_VARIANCE * np.eye(2)).astype(np.float32),
        )

    def log_codes(self, mu: Floats) -> Array:
        """The logarithm of w_k N(mu; m_k, C_k) of codes [N, L], without the powers of 2 pi: [N, K]."""
        components, latents = self.means.shape
        whiten = np.linalg.inv(self.cholesky)  # [K, L, L]
        offset = (whiten @ self.means[:, :, None]).reshape(-1)
        away = (mu.astype(np.float64) @ whiten.reshape(-1, latents).T - offset).reshape(-1, components, latents)
        log_determinants = np.log(np.abs(np.diagonal(self.cholesky, axis1=1, axis2=2))).sum(1)
        joint: Array = self.log_weights - log_determinants - np.einsum("nkl,nkl->nk", away, away) / 2
        return joint

    def surprisal(self, mu: Floats, terms: Array) -> Array:
        """-log p(mu, t) of codes [N, L] and terms [N, 2]: [N]."""

        def chunk(start: int) -> Array:
            rows = slice(start, start + CHUNK)
            joint = self.log_codes(mu[rows]) + self._log_terms(terms[rows])
            largest = joint.max(1, keepdims=True)
            surprisals: Array = -(np.log(np.exp(joint - largest).sum(1)) + largest[:, 0])
            return surprisals

        return np.concatenate(list(parallel.ordered(chunk, range(0, len(mu), CHUNK))))

    def _log_terms(self, terms: Array) -> Array:
        """The logarithm of N(t; n_k, S_k) of terms [N, 2], without the power of 2 pi: [N, K]."""
        cholesky = self.term_cholesky.astype(np.float64)
        difference = terms[:, None] - self.term_means.astype(np.float64)  # [N, K, 2]
        away = np.einsum("kij,nkj->nki", np.linalg.inv(cholesky), difference)
        log_determinants = np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(1)
        result: Array = -log_determinants - np.square(away).sum(2) / 2
        return result
