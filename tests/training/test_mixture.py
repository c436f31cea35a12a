from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from training import mixture


@pytest.mark.parametrize("latents", [1, 2, 7])
def test_the_fit_is_scikit_learn_s(latents: int) -> None:
    draw = np.random.Generator(np.random.PCG64(0)).standard_normal
    x = np.concatenate([draw((400, latents)) @ draw((latents, latents)) + 3 * draw(latents) for _ in range(4)])
    found = mixture.fit(x, 5, 1e-4, seed=0)
    reference = GaussianMixture(5, reg_covar=1e-4, max_iter=mixture.ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference.fit(x)
    np.testing.assert_allclose(found.weights, reference.weights_, rtol=1e-6)
    np.testing.assert_allclose(found.means, reference.means_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.covariances, reference.covariances_, rtol=1e-6, atol=1e-7)


def test_equal_points_make_narrow_gaussians_and_no_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = mixture.fit(np.full((20, 2), 3.0), 3, 1e-4, seed=0)
    assert found.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.covariances[found.weights > 0.1], np.eye(2)[None] * 1e-4, atol=1e-9)
