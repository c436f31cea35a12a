from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from service import contract as names
from service.errors import BundleRefused
from service.inference.bundle import read_bundle
from service.inference.prior import Mixture
from service.inference.statistics import Density, Statistics
from tests.bundles import made_up_statistics, mixtures, seal, write_bundle


def statistics_of(folder: Path) -> Statistics:
    found = read_bundle(folder).statistics
    assert found is not None
    return found


def gaussian(away: npt.NDArray[np.float32], factor: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """N(away; 0, factor factor'), without the powers of 2 pi, of each row."""
    covariance = factor.astype(np.float64) @ factor.T
    distances = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    density: npt.NDArray[np.float64] = np.exp(-distances / 2) / np.sqrt(np.linalg.det(covariance))
    return density


def test_a_bundle_without_statistics_has_none(tmp_path: Path) -> None:
    assert read_bundle(write_bundle(tmp_path)).statistics is None


@pytest.mark.parametrize("prior", [True, False])
def test_statistics_are_read_with_a_prior_and_without(tmp_path: Path, prior: bool) -> None:
    found = statistics_of(write_bundle(tmp_path, objective="squared-error", statistics=True, prior=prior))
    assert found.rate.tolist() == [0, 1, 2]
    mu = np.full((5, 3), 20 if prior else 0, np.float32)
    typicality = found.typicality(mu, np.full(5, 6.0, np.float32), np.full(5, 6.0, np.float32))
    assert typicality.dtype == np.float32
    assert ((typicality > 0.5) & (typicality <= 1)).all()


@pytest.mark.parametrize("components", [1, 3, 500])
def test_the_surprisal_is_that_of_the_mixture(components: int) -> None:
    draw = np.random.Generator(np.random.PCG64(0))
    weights = draw.dirichlet(np.ones(components)).astype(np.float32)
    means = draw.standard_normal((components, 4), np.float32)
    cholesky = (np.tril(draw.standard_normal((components, 4, 4))) + 2 * np.eye(4)).astype(np.float32)
    term_means = draw.standard_normal((components, 2), np.float32)
    term_cholesky = (np.tril(draw.random((components, 2, 2))) + np.eye(2)).astype(np.float32)
    mu, terms = draw.standard_normal((40, 4), np.float32), draw.standard_normal((40, 2), np.float32)
    found = Density.of(Mixture(weights, means, cholesky), term_means, term_cholesky).surprisals(mu, terms)
    density = np.zeros(40)
    for weight, mean, factor, term_mean, term_factor in zip(
        weights, means, cholesky, term_means, term_cholesky, strict=True
    ):
        density += weight * gaussian(mu - mean, factor) * gaussian(terms - term_mean, term_factor)
    np.testing.assert_allclose(found, -np.log(density), rtol=1e-4, atol=1e-3)


def test_gaussians_of_no_weight_play_no_part() -> None:
    """Training fills up the mixture of a label that has few images with Gaussians of weight 0, which are singular."""
    one, two = np.ones((1, 2, 2), np.float32) * np.eye(2, dtype=np.float32), np.zeros((1, 2, 2), np.float32)
    terms = np.zeros((2, 2), np.float32), np.concatenate([one, one])
    means = np.array([[0, 0], [5, 5]], np.float32)
    codes = Mixture(np.array([1, 0], np.float32), means, np.concatenate([one, two]))
    found = Density.of(codes, *terms).surprisals(means, np.zeros((2, 2), np.float32))
    np.testing.assert_allclose(found, [0, 25])


@pytest.mark.parametrize("scale", [1e3, 1e9, 1e30])
def test_codes_far_from_all_images_are_not_typical_and_no_warning(tmp_path: Path, scale: float) -> None:
    found = statistics_of(write_bundle(tmp_path, objective="squared-error", statistics=True, prior=True))
    mu = np.full((1, 3), scale, np.float32)
    assert found.typicality(mu, np.full(1, 1e8, np.float32), np.full(1, 1e30, np.float32)).tolist() == [0]


def test_typicality_falls_on_beyond_the_last_quantile(tmp_path: Path) -> None:
    found = statistics_of(write_bundle(tmp_path, objective="squared-error", statistics=True))
    errors = np.exp(np.linspace(4, 14, 50)).astype(np.float32)
    typicality = found.typicality(np.zeros((50, 3), np.float32), errors, np.full(50, 6.0, np.float32))
    assert (np.diff(typicality) < 0).all()
    assert typicality[-1] > 0


@pytest.mark.parametrize(
    "change",
    [
        {names.STATISTICS_RATE: np.zeros(4, np.float32)},
        {names.STATISTICS_RATE: np.zeros(3, np.float64)},
        {names.STATISTICS_RATE: np.array([{}] * 3, dtype=object)},
        {names.STATISTICS_MU_MEAN: np.full(3, np.nan, np.float32)},
        {names.STATISTICS_MU_STD: np.array([1, 1, -1], np.float32)},
        {names.STATISTICS_TERM_MEANS: np.zeros((3, 2), np.float32)},
        {names.STATISTICS_TERM_CHOLESKY: np.zeros((4, 2, 3), np.float32)},
        {names.STATISTICS_TERM_CHOLESKY: np.ones((4, 2, 2), np.float32)},
        {names.STATISTICS_SURPRISALS: np.zeros(0, np.float32)},
        {names.STATISTICS_SURPRISALS: np.array([2, 1], np.float32)},
        {names.STATISTICS_SURPRISALS: np.zeros((2, 2), np.float32)},
        {names.STATISTICS_VARIANCE: np.ones(1, np.float32)},
    ],
    ids=[
        "wrong length",
        "wrong type",
        "pickled",
        "not finite",
        "negative deviation",
        "too few Gaussians",
        "not square",
        "not triangular",
        "no quantiles",
        "quantiles that fall",
        "quantiles with two axes",
        "variances",
    ],
)
def test_arrays_that_are_no_statistics_of_the_latents_refuse_the_bundle(
    tmp_path: Path, change: dict[str, npt.NDArray[np.generic]]
) -> None:
    folder = write_bundle(tmp_path, prior=True, objective="squared-error")
    np.savez(folder / names.STATISTICS_FILE, **made_up_statistics(3, 4) | change)
    seal(folder)
    with pytest.raises(BundleRefused, match=r"tiny/1: statistics\.npz does not hold statistics of 3 latents\."):
        read_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip file"])
def test_bytes_that_are_no_arrays_refuse_the_bundle(tmp_path: Path, content: bytes) -> None:
    folder = write_bundle(tmp_path, objective="squared-error", statistics=True)
    (folder / names.STATISTICS_FILE).write_bytes(content)
    seal(folder)
    with pytest.raises(BundleRefused, match=r"statistics\.npz does not hold"):
        read_bundle(folder)


def test_a_calibrated_objective_needs_a_variance(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, objective="calibrated")
    zero = {names.STATISTICS_VARIANCE: np.zeros((), np.float32)}
    np.savez(folder / names.STATISTICS_FILE, **made_up_statistics(3, 1) | zero)  # type: ignore[arg-type]
    seal(folder)
    with pytest.raises(BundleRefused, match=r"statistics\.npz does not hold"):
        read_bundle(folder)


def test_an_objective_that_is_not_known_refuses_the_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, objective="hinge", statistics=True)
    with pytest.raises(BundleRefused, match=r"tiny/1: it has statistics\.npz, but its objective, 'hinge', is not one"):
        read_bundle(folder)


@pytest.mark.parametrize("array", [names.PRIOR_CHOLESKY, names.STATISTICS_TERM_CHOLESKY])
def test_a_gaussian_without_a_density_refuses_the_bundle(tmp_path: Path, array: str) -> None:
    folder = write_bundle(tmp_path, prior=True, objective="squared-error")
    for file, arrays in (
        (names.PRIOR_FILE, mixtures(3)),
        (names.STATISTICS_FILE, made_up_statistics(3, 4)),
    ):
        if array in arrays:
            arrays[array] = np.zeros_like(arrays[array])
        np.savez(folder / file, **arrays)  # type: ignore[arg-type]
    seal(folder)
    with pytest.raises(BundleRefused, match=r"tiny/1: a Gaussian of its statistics or its prior has no density\."):
        read_bundle(folder)
