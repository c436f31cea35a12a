from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from service.inference.walks import Floats, Interpolation, Traversal, WalkPath


def points(count: int, latent_dim: int = 20, seed: int = 0) -> Floats:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((count, latent_dim), np.float32)


def walk(start: npt.ArrayLike, end: npt.ArrayLike, path: WalkPath = "spherical", steps: int = 9) -> Floats:
    return Interpolation(steps, path).place(np.array([start, end], np.float32))


def length(z: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(np.linalg.norm(z.astype(np.float64), axis=-1))


class TestInterpolation:
    @pytest.mark.parametrize("path", ["linear", "spherical"])
    @pytest.mark.parametrize(("count", "steps"), [(2, 2), (2, 9), (5, 2), (5, 7)])
    def test_the_given_points_are_on_the_way_bit_for_bit(self, path: WalkPath, count: int, steps: int) -> None:
        given = points(count)
        found = Interpolation(steps, path)
        z = found.place(given)
        assert z.dtype == np.float32
        assert len(z) == found.frames(count) == (count - 1) * (steps - 1) + 1
        assert z[:: steps - 1].tobytes() == given.tobytes()
        assert [found.origin(frame) for frame in range(len(z))] == [frame // (steps - 1) for frame in range(len(z))]

    def test_linear_is_the_straight_line_in_equal_steps(self) -> None:
        start, end = points(2)
        expected = [start + (end - start) * (step / 4) for step in range(5)]
        np.testing.assert_allclose(walk(start, end, "linear", 5), expected, rtol=1e-5, atol=1e-6)

    def test_spherical_turns_at_a_constant_speed(self) -> None:
        z = walk([1, 0, 0], [0, 1, 0], steps=4)
        angles = np.deg2rad([0, 30, 60, 90])
        np.testing.assert_allclose(z, np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1), atol=1e-7)

    def test_spherical_equals_the_formula_of_shoemake(self) -> None:
        """Quaternions have length 1; so do these."""
        start, end = points(2, 4).astype(np.float64)
        start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
        angle = np.arccos(start @ end)
        t = np.arange(9)[:, None] / 8
        expected = (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)
        np.testing.assert_allclose(walk(start, end), expected, atol=1e-6)

    def test_spherical_changes_the_length_evenly(self) -> None:
        z = walk([3, 0], [0, 1], steps=5)
        np.testing.assert_allclose(length(z), [3, 2.5, 2, 1.5, 1], rtol=1e-6)

    def test_spherical_keeps_the_length_that_latents_have_and_linear_loses_it(self) -> None:
        start, end = points(2, 200)
        usual = length(np.stack([start, end])).mean()
        assert abs(length(walk(start, end))[4] / usual - 1) < 0.01
        assert length(walk(start, end, "linear"))[4] < 0.8 * usual

    def test_a_walk_back_meets_the_same_points(self) -> None:
        start, end = points(2)
        np.testing.assert_allclose(walk(start, end), walk(end, start)[::-1], atol=1e-6)
        np.testing.assert_allclose(walk(start, -start), walk(-start, start)[::-1], atol=1e-6)

    def test_points_in_one_direction_are_joined_by_the_line(self) -> None:
        (start,) = points(1)
        for end in (start, 3 * start, np.nextafter(start, np.float32(9))):
            np.testing.assert_allclose(walk(start, end), walk(start, end, "linear"), rtol=1e-6, atol=1e-6)

    def test_opposite_points_are_joined_towards_the_axis_of_the_smallest_latent(self) -> None:
        z = walk([2, -1, 0, 0], [-2, 1, 0, 0], steps=3)
        np.testing.assert_allclose(z[1], [0, 0, np.sqrt(5), 0], atol=1e-6)

    def test_nearly_opposite_points_are_joined_on_the_side_where_they_are_nearer(self) -> None:
        z = walk([1, 0, 0], [-1, 0, -1e-4], steps=3)
        np.testing.assert_allclose(z[1], [0, 0, -1], atol=1e-4)

    def test_from_the_origin_it_is_the_line(self) -> None:
        (end,) = points(1)
        origin = np.zeros_like(end)
        for start, other in ((origin, end), (end, origin), (origin, origin)):
            np.testing.assert_array_equal(walk(start, other), walk(start, other, "linear"))

    def test_with_one_latent_it_is_the_line(self) -> None:
        np.testing.assert_array_equal(walk([-1], [3]), walk([-1], [3], "linear"))

    @pytest.mark.parametrize("path", ["linear", "spherical"])
    def test_no_frame_is_farther_out_than_both_of_its_points(self, path: WalkPath) -> None:
        """Whatever they are: of any size, equal, opposite, nearly so, or zero."""
        random = np.random.Generator(np.random.PCG64(1))
        for latent_dim in (1, 2, 3, 20):
            start = points(200, latent_dim) * 10 ** random.uniform(-30, 6, (200, 1)).astype(np.float32)
            start[:5] = 0
            for end in (start[::-1], start, -start, start * np.float32(2), -start * np.float32(1 + 1e-6)):
                for one, other in zip(start, end, strict=True):
                    z = walk(one, other, path, 5)
                    assert np.isfinite(z).all()
                    assert (length(z) <= (1 + 1e-6) * max(length(one), length(other)) + 1e-40).all()

    def test_a_pair_is_walked_alike_whatever_the_other_points_are(self) -> None:
        given = points(6)
        given[2] = -given[1]
        given[4] = 0
        together = Interpolation(5, "spherical").place(given)
        for pair in range(5):
            alone = walk(given[pair], given[pair + 1], steps=5)
            assert alone.tobytes() == together[4 * pair : 4 * pair + 5].tobytes()


class TestTraversal:
    def test_each_row_changes_one_latent_and_leaves_the_others(self) -> None:
        given = points(1)
        found = Traversal((7, 3), -2, 1, 4)
        z = found.place(given)
        assert z.shape == (found.frames(1), 20) == (8, 20)
        np.testing.assert_array_equal(found.values, np.array([-2, -1, 0, 1], np.float32))
        for row, dim in enumerate(found.dims):
            for column, value in enumerate(found.values):
                expected = given[0].copy()
                expected[dim] = value
                np.testing.assert_array_equal(z[4 * row + column], expected)
                assert found.origin(4 * row + column) == 0

    def test_both_ends_of_the_range_are_values(self) -> None:
        values = Traversal((0,), -0.1, 0.7, 1000).values
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values[[0, -1]], np.array([-0.1, 0.7], np.float32))
