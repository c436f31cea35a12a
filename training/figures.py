"""The figures of a bundle: how much work goes into them, when they are the same, and when they are rough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from training.data import Sets
from training.recipe import Recipe

Figures = Mapping[str, float]

DIGITS: Final = 5  # after the decimal point
# Two measurements of equal weights differ where float32 sums are taken in another order: on another processor, or with
# another version of a library. A single sample that another label is read from moves `label_accuracy` by 1e-4. Figures
# count as the same when they differ by no more than this share of the larger one, or by the last digit.
RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 2 * 10**-DIGITS
# The end of the name of a spread: the largest minus the smallest of the draws whose mean has the name before it. It
# counts as the same when it differs by no more than that mean may.
SPREAD: Final = "_spread"
# What the names of figures begin with that are measured by each of the two judges of `training.classifier`.
PREFIXES: Final = ("", "second_")

# With fewer test images than this, figures are rough: means have a standard error of several percent, and a Frechet
# distance compares covariances of 64 features that so few images do not determine.
ENOUGH_TEST_IMAGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    `test_images` is the most test images that are used, None for all. `draws` is how many draws of each image the
    log-likelihood takes, and `bernoulli_draws` how many where pixels are drawn black or white.
    """

    test_images: int | None
    draws: int
    bernoulli_draws: int

    def draws_of(self, recipe: Recipe) -> int:
        """The draws of each image for the log-likelihood under this recipe's objective."""
        return self.bernoulli_draws if recipe.objective == "bernoulli" else self.draws

    def of(self, sets: Sets) -> Sets:
        """The sets with no more test images than are used."""
        return sets if self.test_images is None else sets.first_of_test(self.test_images)


# Draws for binarised images as in the literature (Burda et al. 2016).
FULL: Final = Effort(test_images=None, draws=100, bernoulli_draws=5_000)
QUICK: Final = Effort(test_images=1_000, draws=10, bernoulli_draws=100)


def differing(one: Figures, other: Figures) -> list[str]:
    """The names of the figures that are not the same in both, or that only one has."""
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if name not in one or name not in other or not _same(name, one, other)]


def _same(name: str, one: Figures, other: Figures) -> bool:
    figure = name.removesuffix(SPREAD)
    largest = max((abs(each[figure]) for each in (one, other) if figure in each), default=0.0)
    return abs(one[name] - other[name]) <= max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * largest)


def warning(test_images: int) -> str | None:
    """One sentence for figures that are rough, or None where there are enough test images."""
    if test_images >= ENOUGH_TEST_IMAGES:
        return None
    return (
        f"There are only {test_images:,} test images, so all figures are rough, and Frechet distances mean little: "
        f"compare no figures of fewer than {ENOUGH_TEST_IMAGES:,}."
    )


def look(sets: Sets, recipe: Recipe) -> str:
    """One sentence for figures of `QUICK`."""
    used, all_images = len(QUICK.of(sets).test_images), len(sets.test_images)
    return (
        f"These are figures of a quick look: {used:,} of {all_images:,} test images, {QUICK.draws_of(recipe)} draws of "
        "each image for the nll. They are not comparable with figures of a bundle."
    )
