"""The terms of an objective for single images: distortion and rate, and the log-weights of draws. NumPy only.

`training/objective.py` and `training/likelihood.py` have the same in PyTorch, and tests compare the two. Source: Kingma
& Welling, Auto-Encoding Variational Bayes (2014), equation 10 and appendix B; Burda et al., Importance Weighted
Autoencoders (2016), equation 8.

Every row depends only on its own image: no sum goes over rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service import contract as names

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Objective:
    """The likelihood p(x|z) of a model, given the decoder's mean image x_hat.

    `kind` is one of `contract.OBJECTIVES`; `variance` is that of the Gaussian of "calibrated", for pixels in [-1, 1].
    """

    kind: str
    variance: float

    def distortions(self, x_hat: Floats, images: Images) -> Floats:
        """-log p(x|z) of images, uint8 [N, *image_shape], with x_hat float32 of the same shape: float32 [N].

        "squared-error": the squared error, summed over pixels in [-1, 1]: that of N(x_hat, I/2), in nats, without
        (D/2) log pi for D pixels. "calibrated": that of N(x_hat, variance I), in nats; it belongs to a density and may
        be negative. "bernoulli": in nats, the mean over pixels that are drawn white with the grey level as probability;
        for a black and white image that is its own.
        """
        if self.kind == names.BERNOULLI:
            return _cross_entropies(x_hat, images)
        squares = squared_errors(x_hat, images)
        if self.kind == names.SQUARED_ERROR:
            return squares
        constant = x_hat[0].size * math.log(2 * math.pi * self.variance)
        return 0.5 * (squares / np.float32(self.variance) + np.float32(constant))


def squared_errors(x_hat: Floats, images: Images) -> Floats:
    """The squared error of each image, summed over its pixels in [-1, 1]: float32 [N]."""
    difference = images.astype(np.float32)
    difference *= np.float32(2 / 255)
    difference -= np.float32(1)
    difference -= x_hat
    np.square(difference, out=difference)
    squares: Floats = difference.reshape(len(images), -1).sum(axis=1)
    return squares


def _cross_entropies(x_hat: Floats, images: Images) -> Floats:
    white = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    signal, least = x_hat.reshape(white.shape), np.float32(names.LEAST_PROBABILITY)
    log_white, log_black = (np.log(np.maximum((1 + each) / 2, least)) for each in (signal, -signal))
    sums: Floats = -(white * log_white + (1 - white) * log_black).sum(axis=1)
    return sums


def rates(mu: Floats, logvar: Floats) -> Floats:
    """KL(N(mu, exp(logvar)) || N(0, I)) for mu and logvar, float32 [N, L]: float32 [N], in nats."""
    with np.errstate(over="ignore"):
        sums: Floats = (0.5 * (np.square(mu) + np.exp(logvar) - 1 - logvar)).sum(axis=1)
    return sums


def log_likelihoods(distortions: Floats, logvar: Floats, noise: Floats, z: Floats) -> npt.NDArray[np.float32]:
    """The importance-weighted log-likelihood log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) of each image: float32 [N].

    Of k draws z = mu + exp(logvar / 2) noise, float32 [N, k, L], with the posteriors' logvar [N, L] and the draws'
    distortions [N, k]. On average it is a lower bound of log p(x), which rises with k.
    """
    ratios = (np.square(noise) + logvar[:, np.newaxis] - np.square(z)).sum(axis=2, dtype=np.float64) / 2
    log_weights = ratios - distortions
    largest = log_weights.max(axis=1, keepdims=True)
    means = np.exp(log_weights - largest).mean(axis=1)
    found: Floats = (np.log(means) + largest[:, 0]).astype(np.float32)
    return found
