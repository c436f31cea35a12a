"""Connected components of masks, compared with a flood fill."""

from __future__ import annotations

import numpy as np
import pytest

from service.images.components import MOST_RUNS, Mask, components


def flooded(mask: Mask) -> list[set[tuple[int, int]]]:
    """The components of a mask, each as its pixels: row and column."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    while left:
        reached, waiting = set(), [min(left)]
        while waiting:
            row, column = waiting.pop()
            if (row, column) in left:
                left.remove((row, column))
                reached.add((row, column))
                waiting += [(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        found.append(reached)
    return found


@pytest.mark.parametrize("share", [0.02, 0.2, 0.35, 0.5, 0.9])
def test_they_are_those_of_a_flood_fill(share: float) -> None:
    random = np.random.default_rng(round(share * 100))
    mask, weights = random.random((37, 53)) < share, random.random((37, 53), np.float32)
    found = components(mask, weights)
    assert found is not None
    pixels = [
        {(int(row), int(column)) for row, column in np.argwhere(found.mask(np.arange(len(found.area)) == number))}
        for number in range(len(found.area))
    ]
    assert sorted(map(sorted, pixels)) == sorted(map(sorted, flooded(mask)))
    assert list(found.area) == list(map(len, pixels))
    np.testing.assert_allclose(found.mass, [sum(weights[place] for place in part) for part in pixels], rtol=1e-5)
    assert (np.diff(found.mass) <= 0).all()
    for part, (left, top, right, bottom) in zip(pixels, found.box.tolist(), strict=True):
        rows, columns = zip(*part, strict=True)
        assert (left, top, right, bottom) == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


def test_a_spiral_is_one() -> None:
    mask = np.zeros((41, 41), bool)
    row = column = 20
    for turn in range(1, 20):
        down, across = [(0, 1), (1, 0), (0, -1), (-1, 0)][turn % 4]
        for _ in range(2 * (turn // 2 + 1)):
            mask[row, column] = True
            row, column = row + down, column + across
    found = components(mask, np.ones(mask.shape, np.float32))
    assert found is not None
    assert list(found.area) == [mask.sum()]


def test_rows_do_not_touch_across_the_edge() -> None:
    mask = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    beside = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], bool)
    for one in (mask, beside):
        found = components(one, np.ones(one.shape, np.float32))
        assert found is not None
        assert list(found.area) == [1, 1]


def test_an_empty_mask_has_none_and_texture_has_too_many() -> None:
    empty = np.zeros((5, 7), bool)
    found = components(empty, np.ones(empty.shape, np.float32))
    assert found is not None
    assert len(found.area) == 0
    stripes = np.arange(4 * MOST_RUNS).reshape(256, -1) % 2 == 0
    assert components(stripes, np.ones(stripes.shape, np.float32)) is None
