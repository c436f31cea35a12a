"""Where training and serving meet: both see the same digit as the same array."""

from __future__ import annotations

import numpy as np
import pytest

from service import codec
from service.codec import Preprocess
from tests.digits import DATA, encoded
from tests.training.subset import SUBSET
from training import data


@pytest.mark.parametrize("preprocess", ["none", "resize"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_services_array_of_a_digits_png_is_the_training_array_of_that_digit(
    monkeypatch: pytest.MonkeyPatch, part: data.Part, preprocess: Preprocess
) -> None:
    monkeypatch.setitem(data.DATASETS, "mnist", SUBSET)
    images, _ = data.load("mnist", part, DATA / "mnist")
    trained_on = images.numpy()
    served = codec.images_from_pictures(
        [encoded(image) for image in trained_on],
        trained_on.shape[1:],
        preprocess=preprocess,
        background=data.DATASETS["mnist"].background,
        max_pixels=trained_on.size,
    )
    np.testing.assert_array_equal(served, trained_on)
