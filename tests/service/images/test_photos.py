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

MIXED = 60
EACH = 6


@functools.cache
def classifier() -> Classifier:
    return Classifier((CLASSIFIERS / "mnist.onnx").read_bytes())


def seen(picture: bytes) -> Images | None:
    """What the model sees of a photo; None if it is refused."""
    try:
        image: Images = read(picture, preprocess="digit")[0]
    except InvalidInput:
        return None
    return image


def right_and_refused(numbers: range, effects: list[str] | None) -> tuple[int, int]:
    """How many photos of these digits are read right, and how many are refused."""
    images = {number: seen(photo(digits()[number], number, effects)) for number in numbers}
    taken = {number: image for number, image in images.items() if image is not None}
    read_as = classifier().classify(np.stack(list(taken.values())))[1]
    return int((read_as == labels()[list(taken)]).sum()), len(images) - len(taken)


def test_of_mixed_photos_95_percent_are_read_and_2_refused() -> None:
    right, refused = right_and_refused(range(MIXED), None)
    assert right >= 0.95 * MIXED
    assert refused <= 0.02 * MIXED


@pytest.mark.parametrize("effect", EFFECTS)
def test_no_effect_alone_hides_a_digit(effect: str) -> None:
    assert right_and_refused(range(MIXED, MIXED + EACH), [effect]) == (EACH, 0)


def test_of_pictures_without_a_digit_95_percent_are_refused() -> None:
    found = [kind for kind in KINDS for seed in range(8) if seen(no_digit(kind, seed)) is not None]
    assert len(found) <= 0.05 * 8 * len(KINDS)
    assert set(found) <= {"furniture"}
