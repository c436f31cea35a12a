from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from training.fidelity import NEIGHBOUR, Manifold, frechet_distance


class TestFrechetDistance:
    def test_it_is_nothing_between_equal_sets(self) -> None:
        features = np.random.Generator(np.random.PCG64(0)).standard_normal((500, 6))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)

    def test_of_a_move_and_a_stretch_it_is_what_the_formula_gives(self) -> None:
        """|m1 - m2|^2 + sum (s1 - s2)^2 of axes that covary alike (Dowson & Landau 1982)."""
        features = np.random.Generator(np.random.PCG64(0)).standard_normal((500, 2))
        features -= features.mean(0)
        features /= np.sqrt(np.linalg.eigvalsh(np.cov(features.T))).mean()
        stretched = 3 * features + [1, 2]
        variances = np.linalg.eigvalsh(np.cov(features.T))
        assert frechet_distance(features, stretched) == pytest.approx(5 + 4 * variances.sum(), rel=1e-9)

    def test_of_one_axis_it_is_that_of_two_bell_curves(self) -> None:
        draw = np.random.Generator(np.random.PCG64(0)).standard_normal
        one, other = 2 * draw((100_000, 2)), 0.5 * draw((100_000, 2)) + 1
        assert frechet_distance(one, other) == pytest.approx(2 * (1 + (2 - 0.5) ** 2), rel=0.02)
        assert math.isclose(frechet_distance(one, other), frechet_distance(other, one), rel_tol=1e-6)


def normal(count: int, features: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, features), np.float32)


def distances(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    difference = one[:, None].astype(np.float64) - other
    found: npt.NDArray[np.float64] = np.linalg.norm(difference, axis=2)
    return found


class TestManifold:
    def test_each_radius_reaches_the_third_nearest_neighbour(self) -> None:
        features = normal(700, 5, seed=0)
        expected = np.sort(distances(features, features), axis=1)[:, NEIGHBOUR]
        np.testing.assert_allclose(np.sqrt(Manifold.of(features).squared_radii), expected, rtol=1e-4)

    def test_the_share_is_of_those_that_are_within_the_radius_of_any(self) -> None:
        features, others = normal(700, 5, seed=0), 1.5 * normal(600, 5, seed=1)
        radii = np.sort(distances(features, features), axis=1)[:, NEIGHBOUR]
        expected = (distances(others, features) <= radii).any(1).mean()
        assert 0.2 < expected < 0.9
        assert Manifold.of(features).share_of(others) == pytest.approx(expected, abs=1 / 600)

    def test_features_that_lie_far_from_zero_are_no_less_exact(self) -> None:
        features, others = normal(300, 5, seed=0), 1.5 * normal(300, 5, seed=1)
        near, far = (Manifold.of(features + away).share_of(others + away) for away in (0, 500))
        assert far == pytest.approx(near, abs=0.01)

    def test_samples_of_half_of_the_kinds_are_precise_and_recall_half(self) -> None:
        """Kynkaanniemi et al. 2019: a model that misses modes loses recall, not precision."""
        real = normal(400, 5, seed=0)
        real[200:] += 100
        samples = normal(400, 5, seed=1)
        assert Manifold.of(real).share_of(samples) > 0.8
        assert 0.4 < Manifold.of(samples).share_of(real) <= 0.5

    def test_a_set_covers_itself_and_a_few_images_are_enough(self) -> None:
        features = normal(3, 5, seed=0)
        assert Manifold.of(features).share_of(features) == 1
        assert Manifold.of(features).share_of(features + 1_000) == 0
