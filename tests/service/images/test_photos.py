"""`digit` in photos of a fixed seed: what a classifier reads afterwards, and what is refused.

`python -m bench.photos` measures the same on more of them.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from harness.digits import digits, labels
from harness.no_digits import KINDS, no_digit
from harness.photos import EFFECTS, photo
from service.errors import InvalidInput
from service.images.preprocess import Images
from tests.service.images.reading import read
from training.classifier import CLASSIFIERS, Classifier

MIXED = 100
EACH = 6


@functools.cache
def classifier() -> Classifier:
    return Classifier((CLASSIFIERS / "mnist.onnx").read_bytes())


def seen(picture: bytes) -> Images | None:
    """What the model sees of a photo; None if it is refused."""
    try:
        return read(picture, preprocess="digit")[0]
    except InvalidInput:
        return None


def right_and_refused(numbers: range, effects: list[str] | None) -> tuple[float, float]:
    """The share of photos of these digits in which the right one is read, and of those that are refused."""
    read_of = {
        number: image for number in numbers if (image := seen(photo(digits()[number], number, effects))) is not None
    }
    found = list(read_of)
    taken_for = classifier().classify(np.stack(list(read_of.values())))[1]
    return float((taken_for == labels()[found]).sum()) / len(numbers), 1 - len(found) / len(numbers)


def test_of_mixed_photos_95_percent_are_read_and_2_refused() -> None:
    right, refused = right_and_refused(range(MIXED), None)
    assert right >= 0.95
    assert refused <= 0.02


@pytest.mark.parametrize("effect", EFFECTS)
def test_no_effect_alone_hides_a_digit(effect: str) -> None:
    assert right_and_refused(range(MIXED, MIXED + EACH), [effect]) == (1, 0)


def test_of_pictures_without_a_digit_95_percent_are_refused() -> None:
    found = [kind for kind in KINDS for seed in range(12) if seen(no_digit(kind, seed)) is not None]
    assert len(found) <= 0.05 * 12 * len(KINDS)
    assert set(found) <= {"furniture"}
