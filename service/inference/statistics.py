"""The statistics of a bundle's test set: how much each latent is used, and how typical an image is.

Typicality is a p-value: the share of test images that are less likely than the image, by its codes mu and its terms
t = (log(1 + squared error), log(1 + rate)) together. Their density is a mixture over the Gaussians of the aggregate
prior, each with a Gaussian of its own over the terms:

    p(mu, t) = sum_k w_k N(mu; m_k, C_k) N(t; n_k, S_k)        surprisal = -log p(mu, t), without the powers of 2 pi

So both tails of the error count: an error that is too small for its codes is as unlikely as one that is too large.
Training fits and measures (`training/density.py`, `training/statistics.py`); a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service import contract as names
from service.contract import Contract
from service.errors import BundleRefused
from service.inference.files import read_arrays
from service.inference.objective import Objective
from service.inference.pace import Pace
from service.inference.prior import AggregatePrior, Mixture

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# Images at a time: their distances from 500 Gaussians take less than 2 MB, whatever the size of the batch.
_CHUNK: Final = 32

# Numbers in a matrix that NumPy's BLAS multiplies by a vector in this thread alone (OpenBLAS: up to 9,216).
_MOST_FACTORS: Final = 8_000

# Codes and distances beyond these are as unlikely as can be told in float32.
_MOST_CODE: Final = names.LATENT_LIMIT
_MOST_DISTANCE: Final = np.float32(1e30)


@dataclass(frozen=True, slots=True)
class Density:
    """The mixture, ready to be evaluated. K Gaussians over L latents. All arrays are float32.

    `log_weights` [K]: log w_k minus the logarithms of the determinants of both Cholesky factors. `whiten` [K, L, L] and
    `offset` [K, L]: |whiten mu - offset|^2 is the squared distance of codes from each mean. `term_means` [K, 2] and
    `term_whiten` [K, 2, 2], the same for the terms. `whiten` comes as [G, K / G * L, L], and Gaussians of weight 0 fill
    the last of the G groups.
    """

    log_weights: Floats
    whiten: Floats
    offset: Floats
    term_means: Floats
    term_whiten: Floats

    @classmethod
    def of(cls, codes: Mixture, term_means: Floats, term_cholesky: Floats) -> Density:
        """The density of a mixture over the codes and as many Gaussians over the terms.

        Raises ValueError when a Gaussian whose weight is not 0 has no density.
        """
        used, latents = codes.weights > 0, codes.means.shape[1]
        each = max(1, _MOST_FACTORS // latents**2)
        missing = -np.count_nonzero(used) % each
        weights, means, of_codes, of_terms, terms = (
            np.concatenate([array[used], np.repeat(array[used][:1], missing, axis=0)]).astype(np.float64)
            for array in (codes.weights, codes.means, codes.cholesky, term_cholesky, term_means)
        )
        weights[len(weights) - missing :] = 0
        try:
            whiten, term_whiten = (np.linalg.inv(each).astype(np.float64) for each in (of_codes, of_terms))
        except np.linalg.LinAlgError as error:
            raise ValueError("singular") from error
        offset = np.einsum("kij,kj->ki", whiten, means)
        with np.errstate(over="ignore", divide="ignore"):
            arrays = (
                np.log(weights) - _log_determinants(of_codes) - _log_determinants(of_terms),
                whiten.reshape(-1, each * latents, latents),
                offset,
                terms,
                term_whiten,
            )
            found = [array.astype(np.float32) for array in arrays]
        if not all(np.isfinite(array[: len(weights) - missing]).all() for array in found):
            raise ValueError("singular")
        return cls(*found)

    def surprisals(self, mu: Floats, terms: Floats) -> Floats:
        """The surprisal of codes mu, float32 [N, L], and terms, float32 [N, 2]: float32 [N]."""
        chunks = (slice(start, start + _CHUNK) for start in range(0, len(mu), _CHUNK))
        return np.concatenate([self._surprisals(mu[rows], terms[rows]) for rows in chunks])

    def _surprisals(self, mu: Floats, terms: Floats) -> Floats:
        count = len(self.log_weights)
        distances = np.empty((len(mu), count), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            # Row by row: a product with several rows may add in another order, by how many there are.
            for row, code in enumerate(np.clip(mu, -_MOST_CODE, _MOST_CODE)):
                away = (self.whiten @ code).reshape(self.offset.shape)
                away -= self.offset
                np.einsum("kl,kl->k", away, away, out=distances[row])
        first, second = (terms[:, place, np.newaxis] - self.term_means[:, place] for place in (0, 1))  # [N, K]
        second = self.term_whiten[:, 1, 0] * first + self.term_whiten[:, 1, 1] * second
        distances += np.square(self.term_whiten[:, 0, 0] * first) + np.square(second)
        np.fmin(distances, _MOST_DISTANCE, out=distances)  # also in place of NaN
        joint = self.log_weights - distances / 2
        largest = joint.max(axis=1, keepdims=True)
        found: Floats = -(np.log(np.exp(joint - largest).sum(axis=1)) + largest[:, 0])
        return found


@dataclass(frozen=True, slots=True)
class Statistics:
    """What statistics.npz says, for L latents and Q quantiles; `service.contract` describes its arrays.

    `rate`, `mu_mean`, `mu_std` float32 [L]; `surprisals` float64 [Q], ascending; `tail` is how far the surprisal has to
    rise beyond the last of them for typicality to fall by a factor of e.
    """

    rate: Floats
    mu_mean: Floats
    mu_std: Floats
    objective: Objective
    density: Density
    surprisals: Doubles
    tail: float

    def typicality(self, mu: Floats, squared_errors: Floats, rates: Floats) -> Floats:
        """How typical images are, by their mu [N, L], squared errors [N] and rates [N]: float32 [N], 0 to 1."""
        terms = np.log1p(np.stack([squared_errors, rates], axis=1))
        surprisals = self.density.surprisals(mu, terms)
        count = len(self.surprisals)
        below = np.interp(surprisals, self.surprisals, (np.arange(count) + 0.5) / count)
        beyond = np.maximum(surprisals - self.surprisals[-1], 0)
        found: Floats = ((1 - below) * np.exp(-beyond / self.tail)).astype(np.float32)
        return found

    def pace(self) -> Pace:
        """How long `typicality` takes."""

        def run(rows: int) -> None:
            noughts = np.zeros(rows, np.float32)
            self.typicality(np.zeros((rows, len(self.rate)), np.float32), noughts, noughts)

        return Pace.measure(run)


def read_statistics(place: str, data: bytes, contract: Contract, prior: AggregatePrior | None) -> Statistics:
    """Read the statistics from the bytes of a bundle's statistics.npz. Nothing is unpickled.

    Raises BundleRefused when they do not hold statistics of the model's latents, prior and objective; its sentence
    begins with `place`.
    """
    latents = contract.latent_dim
    refused = BundleRefused(f"{place}: {names.STATISTICS_FILE} does not hold statistics of {latents} latents.")
    if contract.objective not in names.OBJECTIVES:
        raise BundleRefused(
            f"{place}: it has {names.STATISTICS_FILE}, but its objective, {contract.objective!r}, is not one of "
            f"{', '.join(names.OBJECTIVES)}."
        )
    try:
        arrays = read_arrays(data, names.STATISTICS_ARRAYS)
    except ValueError as error:
        raise refused from error
    rate, mu_mean, mu_std, term_means, term_cholesky, surprisals, variance = arrays
    components, quantiles = 1 if prior is None else len(prior.overall.weights), surprisals.size
    shapes = [(latents,), (latents,), (latents,), (components, 2), (components, 2, 2), (quantiles,), ()]
    whole = (
        quantiles > 0
        and all(array.dtype == np.float32 for array in arrays)
        and [array.shape for array in arrays] == shapes
        and all(np.isfinite(array).all() for array in arrays)
        and bool((mu_std >= 0).all() and (np.diff(surprisals) >= 0).all())
        and bool((term_cholesky[:, 0, 1] == 0).all())
        and (contract.objective != names.CALIBRATED or variance > 0)
    )
    if not whole:
        raise refused
    codes = _alone(mu_mean, mu_std) if prior is None else prior.overall
    try:
        density = Density.of(codes, term_means, term_cholesky)
    except ValueError as error:
        raise BundleRefused(f"{place}: a Gaussian of its statistics or its prior has no density.") from error
    known = surprisals.astype(np.float64)
    excess = known - known[int(names.TAIL * quantiles)]
    tail = max(float(excess[excess >= 0].mean()), float(np.finfo(np.float32).tiny))
    objective = Objective(contract.objective, float(variance))
    return Statistics(rate, mu_mean, mu_std, objective, density, known, tail)


def _alone(mu_mean: Floats, mu_std: Floats) -> Mixture:
    """The one Gaussian of a bundle without a prior. A latent that never varies gets a small deviation."""
    deviations = np.diag(np.maximum(mu_std, _LEAST_DEVIATION).astype(np.float32))
    return Mixture(np.ones(1, np.float32), mu_mean[np.newaxis], deviations[np.newaxis])


_LEAST_DEVIATION: Final = np.float32(1e-2)


def _log_determinants(cholesky: Doubles) -> Doubles:
    """The logarithms of the determinants of lower triangular matrices [K, L, L]: float64 [K]."""
    found: Doubles = np.log(np.abs(np.diagonal(cholesky, axis1=1, axis2=2))).sum(axis=1)
    return found
