from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from training.prior import LEAST_VARIANCE, Prior

Floats = npt.NDArray[np.float64]


@pytest.fixture
def codes() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Codes in three latents: 1,000 of label 3 in two clouds, and 3,000 of label 8 in one."""
    draw = np.random.Generator(np.random.PCG64(0)).standard_normal
    clouds = [draw((500, 3)) * [1, 0.2, 0.5] - 6, draw((500, 3)) * 0.3 + 6, draw((3_000, 3)) @ np.tril(np.ones((3, 3)))]
    return np.concatenate(clouds), np.repeat([3, 8], [1_000, 3_000])


def test_each_label_gets_the_mixture_that_its_codes_came_from(codes: tuple[Floats, npt.NDArray[np.int64]]) -> None:
    prior = Prior.fit(*codes, components=2)
    assert prior.labels.tolist() == [3, 8]
    np.testing.assert_allclose(prior.shares, [0.25, 0.75])
    order = prior.means[0][:, 0].argsort()
    np.testing.assert_allclose(prior.weights[0], [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(prior.means[0][order], [[-6] * 3, [6] * 3], atol=0.2)
    covariance = prior.cholesky[0][order[0]] @ prior.cholesky[0][order[0]].T
    np.testing.assert_allclose(covariance, np.diag([1, 0.04, 0.25]), atol=0.1)


def test_draws_have_the_moments_of_the_codes(codes: tuple[Floats, npt.NDArray[np.int64]]) -> None:
    z, labels = codes
    prior = Prior.fit(z, labels, components=3)
    for label, known in ((None, z), (8, z[labels == 8]), (3, z[labels == 3])):
        drawn = prior.draw(40_000, 0, label)
        np.testing.assert_allclose(drawn.mean(0), known.mean(0), atol=0.15)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(known.T), rtol=0.1, atol=0.15)


def test_the_same_codes_give_the_same_bytes_which_read_back(codes: tuple[Floats, npt.NDArray[np.int64]]) -> None:
    one, other = (Prior.fit(*codes, components=2).to_bytes() for _ in range(2))
    assert one == other
    assert Prior.from_bytes(one).to_bytes() == one


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_codes_make_few_gaussians(count: int) -> None:
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((count, 3))
    prior = Prior.fit(z, np.zeros(count, int), components=4)
    assert prior.weights.shape == (1, 4)
    assert prior.weights.sum() == pytest.approx(1)
    assert (prior.weights[0] > 0).sum() == min(count, 4)
    assert np.isfinite(prior.draw(10, 0)).all()


def test_a_latent_that_never_varies_still_makes_a_gaussian() -> None:
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((200, 2)) * [1, 0]
    prior = Prior.fit(z, np.zeros(200, int), components=1)
    assert prior.draw(1_000, 0)[:, 1].std() == pytest.approx(LEAST_VARIANCE**0.5, rel=0.1)
