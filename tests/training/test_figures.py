from __future__ import annotations

import dataclasses

import pytest

from training import data, figures, recipe
from training.figures import FULL, QUICK

from . import subset


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (31.07059, 31.07061, True),
        (31.07, 31.10, True),
        (31.07, 31.15, False),
        (-229.15, -229.20, True),
        (0.9791, 0.9793, True),
        (0.9791, 0.9811, False),
        (0.00713, 0.00714, True),
        (0.00713, 0.00720, False),
        (20.0, 19.0, False),
        (0.0, 0.00002, True),
        (float("nan"), float("nan"), False),
    ],
)
def test_figures_are_the_same_within_a_thousandth_or_the_last_digit(one: float, other: float, same: bool) -> None:
    assert (figures.differing({"x": one}, {"x": other}) == []) is same


def test_a_spread_may_differ_by_as_much_as_its_mean_may() -> None:
    one = {"x": 50.0, "x_spread": 0.20}
    assert figures.differing(one, {"x": 50.0, "x_spread": 0.24}) == []
    assert figures.differing(one, {"x": 50.0, "x_spread": 0.26}) == ["x_spread"]


def test_a_figure_that_only_one_has_is_a_difference() -> None:
    assert figures.differing({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b", "c"]


def test_few_test_images_make_rough_figures() -> None:
    assert figures.warning(1_000) is None
    assert str(figures.warning(30)).startswith("There are only 30 test images, so all figures are rough")


def test_a_quick_look_says_what_it_looked_at() -> None:
    sets = data.load_both("mnist", subset.DIRECTORY)
    many = dataclasses.replace(sets, test_images=sets.test_images.repeat(10, 1, 1))
    assert len(QUICK.of(many).test_images) == 1_000
    assert FULL.of(many) is many
    assert "1,000 of 2,000 test images, 10 draws" in figures.look(many, recipe.read("mnist-mlp"))
    assert "100 draws" in figures.look(many, recipe.read("mnist-binarised"))
    assert FULL.draws_of(recipe.read("mnist-binarised")) == 5_000
