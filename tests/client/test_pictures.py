"""Pictures on their way into requests and out of answers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from harness.digits import decoded, digits
from vae_client import grid
from vae_client.pictures import png_bytes


def test_a_grid_has_the_images_row_by_row() -> None:
    placed = np.asarray(grid(digits()[:5], columns=3))
    assert placed.shape == (56, 84)
    np.testing.assert_array_equal(placed[28:, 28:56], digits()[4])
    assert not placed[28:, 56:].any()
    assert grid(digits()[:5]).size == (84, 56)
    with pytest.raises(ValueError, match="at least one"):
        grid(digits()[:0])


def test_a_table_of_images_keeps_its_rows_in_a_grid() -> None:
    by_columns = np.asarray(grid(digits()[:6], columns=3))
    np.testing.assert_array_equal(np.asarray(grid(digits()[:6].reshape(2, 3, 28, 28))), by_columns)
    colour = np.repeat(digits()[:6, ..., None], 3, 3)
    np.testing.assert_array_equal(np.asarray(grid(colour, 3))[..., 0], by_columns)


def test_a_pillow_image_is_sent_as_it_is_seen() -> None:
    turned = Image.fromarray(digits()[0])
    turned.getexif()[0x0112] = 6  # a camera held on its side
    np.testing.assert_array_equal(decoded(png_bytes(turned)), np.rot90(digits()[0], -1))
    plain = Image.fromarray(digits()[0])
    np.testing.assert_array_equal(decoded(png_bytes(plain)), digits()[0])
