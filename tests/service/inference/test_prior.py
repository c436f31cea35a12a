from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from service import contract as names
from service.errors import BundleRefused
from service.inference.bundle import read_bundle
from service.inference.prior import Mixture
from tests.bundles import mixtures, seal, write_bundle


@pytest.fixture
def mixture() -> Mixture:
    """Two Gaussians in two dimensions. The second one has a weight of 3/4."""
    cholesky = np.array([[[1, 0], [0.5, 2]], [[0.3, 0], [-0.2, 0.1]]], np.float32)
    return Mixture(np.array([0.25, 0.75], np.float32), np.array([[-5, 0], [5, 1]], np.float32), cholesky)


def draw(mixture: Mixture, count: int) -> npt.NDArray[np.float32]:
    generator = np.random.Generator(np.random.PCG64(0))
    return mixture.place(generator.random(count), generator.standard_normal((count, 2), np.float32), 1.0)


def test_draws_have_the_weights_means_and_covariances_of_the_mixture(mixture: Mixture) -> None:
    """20,000 draws agree within five standard errors."""
    z = draw(mixture, 20_000)
    second = z[:, 0] > 0
    assert abs(second.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 20_000)
    for component, chosen in enumerate((~second, second)):
        expected = mixture.cholesky[component] @ mixture.cholesky[component].T
        rows, error = z[chosen], 5 / np.sqrt(chosen.sum())
        scale = np.sqrt(np.diag(expected))
        assert (np.abs(rows.mean(axis=0) - mixture.means[component]) < error * scale).all()
        assert (np.abs(np.cov(rows.T) - expected) < 2 * error * np.outer(scale, scale)).all()


def test_the_variance_is_that_of_the_draws(mixture: Mixture) -> None:
    """By the law of total variance; five standard errors of 20,000 draws are less than a tenth."""
    within, between = np.array([0.25 + 0.75 * 0.09, 0.25 * 4.25 + 0.75 * 0.05]), 0.25 * 0.75 * np.array([100, 1])
    np.testing.assert_allclose(mixture.variance(), within + between, rtol=1e-6)
    np.testing.assert_allclose(draw(mixture, 20_000).var(axis=0), mixture.variance(), rtol=0.1)


def test_a_row_does_not_depend_on_its_neighbours(mixture: Mixture) -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    choice, noise = generator.random(50), generator.standard_normal((50, 2), np.float32)
    together = mixture.place(choice, noise, 1.0)
    alone = [mixture.place(choice[row : row + 1], noise[row : row + 1], 1.0) for row in range(50)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_last_choice_below_one_still_chooses_a_gaussian(mixture: Mixture) -> None:
    z = mixture.place(np.array([np.nextafter(1, 0)]), np.zeros((1, 2), np.float32), 1.0)
    np.testing.assert_array_equal(z, mixture.means[1:])


def test_the_overall_mixture_combines_the_labels_by_their_shares(tmp_path: Path) -> None:
    prior = read_bundle(write_bundle(tmp_path, prior=True)).prior
    assert prior is not None
    np.testing.assert_allclose(prior.overall.weights, [0.375, 0.375, 0.225, 0.025])
    np.testing.assert_array_equal(prior.overall.means[2:], prior.by_label[4].means)
    assert sorted(prior.by_label) == [1, 4]


def test_a_bundle_without_a_prior_has_none(tmp_path: Path) -> None:
    assert read_bundle(write_bundle(tmp_path)).prior is None


@pytest.mark.parametrize(
    "change",
    [
        {names.PRIOR_MEANS: np.zeros((2, 2, 4), np.float32)},
        {names.PRIOR_MEANS: np.zeros((2, 2, 3), np.float64)},
        {names.PRIOR_CHOLESKY: np.full((2, 2, 3, 3), np.nan, np.float32)},
        {names.PRIOR_WEIGHTS: np.array([[0.5, 0.6], [0.9, 0.1]], np.float32)},
        {names.PRIOR_WEIGHTS: np.array([[1.5, -0.5], [0.9, 0.1]], np.float32)},
        {names.PRIOR_WEIGHTS: np.float32(1)},
        {names.PRIOR_SHARES: np.array([0.5, 0.4], np.float32)},
        {names.PRIOR_LABELS: np.array([1, 1])},
        {names.PRIOR_LABELS: np.array([1, 2, 3])},
        {names.PRIOR_LABELS: np.array([], np.int64)},
        {names.PRIOR_LABELS: np.array([{}, {}], dtype=object)},
    ],
    ids=[
        "wrong length",
        "wrong type",
        "not finite",
        "weights above one",
        "negative weight",
        "no axes",
        "shares below one",
        "label twice",
        "labels without mixture",
        "no labels",
        "pickled",
    ],
)
def test_arrays_that_are_not_a_mixture_over_the_latents_refuse_the_bundle(
    tmp_path: Path, change: dict[str, npt.NDArray[np.generic]]
) -> None:
    folder = write_bundle(tmp_path, prior=True)
    np.savez(folder / names.PRIOR_FILE, **mixtures(3) | change)
    seal(folder)
    with pytest.raises(BundleRefused, match=r"tiny/1: prior\.npz does not hold mixtures over 3 latents\."):
        read_bundle(folder)


def test_labels_beyond_their_names_refuse_the_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, prior=True)
    seal(folder, label_names=["zero", "one", "two", "three"])
    with pytest.raises(BundleRefused, match=r"tiny/1: prior\.npz has labels beyond the 4 names\."):
        read_bundle(folder)


def test_a_missing_array_refuses_the_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, prior=True)
    arrays = mixtures(3)
    del arrays[names.PRIOR_SHARES]
    np.savez(folder / names.PRIOR_FILE, **arrays)  # type: ignore[arg-type]
    seal(folder)
    with pytest.raises(BundleRefused, match=r"prior\.npz does not hold"):
        read_bundle(folder)
