"""The aggregate prior: a mixture of Gaussians, fitted to the latents of real images, for all labels and for each one.

The decoder has been trained on the latents of images, and these do not fill N(0, I) evenly. So a draw from N(0, I)
often lies where there was no image (Tomczak & Welling, VAE with a VampPrior, 2018; Ghosh et al., From Variational to
Deterministic Autoencoders, 2020, section 4). Training fits the mixtures; this module reads them and draws from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service import contract as names
from service.contract import Contract
from service.errors import BundleRefused
from service.inference.files import read_arrays

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of K Gaussians over L latents.

    `weights` [K], with sum 1; `means` [K, L]; `cholesky` [K, L, L], the lower triangular factors of the covariances.
    All are float32.
    """

    weights: Floats
    means: Floats
    cholesky: Floats

    @property
    def variances(self) -> Floats:
        """The variance of each latent, float32 [L]."""
        within = np.square(self.cholesky).sum(axis=2)  # [K, L], the diagonals of the covariances
        mean = self.weights @ self.means
        found: Floats = self.weights @ (within + np.square(self.means - mean))
        return found

    def place(self, choice: npt.NDArray[np.float64], noise: Floats, temperature: float) -> Floats:
        """Draws z, float32 [N, L], made from uniform numbers `choice` [N] in [0, 1) and standard normal `noise` [N, L].

        `choice` selects the component. z = mean + temperature * cholesky @ noise. Each row depends only on its own
        choice and noise.
        """
        component = np.searchsorted(np.cumsum(self.weights, dtype=np.float64)[:-1], choice, side="right")  # [N]
        away = np.einsum("nij,nj->ni", self.cholesky[component], noise)  # [N, L]
        z: Floats = self.means[component] + np.float32(temperature) * away
        return z


@dataclass(frozen=True, slots=True)
class AggregatePrior:
    """The mixture for all images, and the mixture of each label. The first consists of the others."""

    overall: Mixture
    by_label: Mapping[int, Mixture]


def read_prior(place: str, data: bytes, contract: Contract) -> AggregatePrior:
    """Read the prior from the bytes of a bundle's prior.npz. Nothing is unpickled.

    Raises BundleRefused when they do not hold mixtures over the model's latents; its sentence begins with `place`.
    """
    refused = BundleRefused(f"{place}: {names.PRIOR_FILE} does not hold mixtures over {contract.latent_dim} latents.")
    try:
        labels, shares, weights, means, cholesky = read_arrays(data, names.PRIOR_ARRAYS)
    except ValueError as error:
        raise refused from error
    groups, latents = labels.size, contract.latent_dim
    components = weights.shape[-1] if weights.ndim else 0
    expected = {
        (groups,): shares,
        (groups, components): weights,
        (groups, components, latents): means,
        (groups, components, latents, latents): cholesky,
    }
    whole = (
        labels.dtype == np.int64
        and labels.shape == (groups,)
        and len(set(labels.tolist())) == groups > 0
        and all(array.dtype == np.float32 and array.shape == shape for shape, array in expected.items())
        and all(np.isfinite(array).all() for array in expected.values())
        and all(_are_shares(array) for array in (shares, *weights))
    )
    if not whole:
        raise refused
    if contract.label_names and not all(0 <= label < len(contract.label_names) for label in labels.tolist()):
        raise BundleRefused(f"{place}: {names.PRIOR_FILE} has labels beyond the {len(contract.label_names)} names.")
    overall = Mixture(
        (shares[:, None] * weights).reshape(-1),
        means.reshape(-1, latents),
        cholesky.reshape(-1, latents, latents),
    )
    by_label = zip(labels.tolist(), weights, means, cholesky, strict=True)
    return AggregatePrior(overall, {label: Mixture(*arrays) for label, *arrays in by_label})


def _are_shares(values: Floats) -> bool:
    return bool((values >= 0).all()) and abs(float(values.sum(dtype=np.float64)) - 1) < 1e-4
