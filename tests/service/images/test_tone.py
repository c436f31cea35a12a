from __future__ import annotations

import numpy as np

from harness.digits import digits
from service.contract import tone_curve
from service.images.tone import sharpened


def test_at_one_they_are_the_images_themselves() -> None:
    images = digits()[:3]
    assert sharpened(images, 1) is images


def test_every_pixel_is_put_through_the_curve() -> None:
    curve = np.frombuffer(tone_curve(1.3), np.uint8)
    grey = digits()[:3]
    colour = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2, 6, 4, 3), np.uint8)
    turned = grey.transpose(0, 2, 1)  # not contiguous
    for images in (grey, colour, turned, grey[:0]):
        before = images.copy()
        np.testing.assert_array_equal(sharpened(images, 1.3), curve[images])
        np.testing.assert_array_equal(images, before)
