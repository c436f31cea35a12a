"""What `preprocess=auto`, the default, does to a picture, depending on what the model's training images look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.digits import digits, encoded
from harness.paths import MODELS
from harness.photos import photo
from service.images import codec
from service.images.preprocess import Images, box_of
from tests.service.images.reading import DIGIT, SHAPE

FULL = 1.0  # the box of Fashion-MNIST


def read(picture: Image.Image | Images | bytes, **options: Any) -> Images:
    file = picture if isinstance(picture, bytes) else encoded(picture)
    given: Any = {"shape": SHAPE, "preprocess": "auto", "background": 0, "max_pixels": 10**7} | options
    image: Images = codec.images_from_pictures([file], **given)[0]
    return image


def drawn(*, white: bool) -> Images:
    """A large digit off the middle of a page, dark on white or light on black."""
    page = np.zeros((600, 800), np.uint8)
    page[30:310, 450:730] = np.asarray(Image.fromarray(DIGIT).resize((280, 280), Image.Resampling.BICUBIC))
    return 255 - page if white else page


@pytest.mark.parametrize("background", [0, 100, 255])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_of_the_models_size_is_not_changed(mode: str, background: int) -> None:
    for picture in (DIGIT, 255 - DIGIT):
        image = read(Image.fromarray(picture).convert(mode), background=background)
        np.testing.assert_array_equal(image, picture)


class TestStrokesWithMargins:
    @pytest.mark.parametrize("white", [False, True], ids=["light on black", "dark on white"])
    def test_a_drawing_becomes_light_on_black_in_mnists_box(self, white: bool) -> None:
        page = encoded(drawn(white=white))
        assert np.abs(read(page).astype(int) - DIGIT).mean() < 8
        np.testing.assert_array_equal(read(page), read(page, preprocess="digit"))

    def test_on_a_white_background_it_becomes_dark(self) -> None:
        page = encoded(drawn(white=False))
        np.testing.assert_array_equal(read(page, background=255), 255 - read(page))

    def test_the_box_is_that_of_the_training_images(self) -> None:
        image = read(drawn(white=True), box=24 / 28)
        rows = np.flatnonzero(image.any(axis=1))
        assert rows[-1] - rows[0] + 1 == 24

    def test_a_photo_is_searched(self) -> None:
        picture = photo(digits()[0], seed=0)
        found: list[Any] = []
        np.testing.assert_array_equal(read(picture, found=found), read(picture, preprocess="digit"))
        assert found[0].confidence > 0.5

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_a_page_without_ink_is_the_background(self, level: int) -> None:
        found: list[Any] = []
        image = read(np.full((100, 100), level, np.uint8), found=found)
        assert (image == (level if level < 128 else 255 - level)).all()
        assert found == [None]

    def test_what_is_no_digit_is_inverted_and_scaled(self) -> None:
        page = np.full((280, 140), 250, np.uint8)
        page[70:210, 20:120] = 30  # solid
        expected = read(255 - page, preprocess="resize")
        np.testing.assert_array_equal(read(page), expected)


class TestThingsWithoutMargins:
    """In Fashion-MNIST what is shown reaches the edges, lighter than its background, which is black."""

    @pytest.mark.parametrize("white", [False, True], ids=["on black", "on white"])
    def test_what_is_shown_is_scaled_to_the_edges(self, white: bool) -> None:
        golden = np.load(MODELS / "fashion-mlp" / "1" / "golden.npz")["image"]
        for item in golden[:8]:
            large = np.kron(item, np.ones((10, 10), np.uint8)).astype(np.uint8)
            page = np.zeros((500, 700), np.uint8)
            page[100:380, 300:580] = large
            image = read(255 - page if white else page, box=FULL).astype(int)
            moved = [np.roll(image, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
            assert min(np.abs(one - item).mean() for one in moved) < 8  # the middle may lie between two pixels

    def test_a_background_of_many_levels_stays(self) -> None:
        page = np.tile(np.linspace(0, 255, 56).astype(np.uint8), (56, 1))
        np.testing.assert_array_equal(read(page, box=FULL, background=0), _either(page))


def _either(page: Images) -> Images:
    """The page scaled, inverted if its edge is light in the median."""
    edge = np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])
    return read(255 - page if np.median(edge) >= 128 else page, preprocess="resize")


@pytest.mark.parametrize(("shape", "background"), [((28, 28, 3), 0), ((28, 28), 100), ((28, 28), 150)])
def test_where_the_background_does_not_say_what_ink_is_pictures_are_resized(
    shape: tuple[int, ...], background: int
) -> None:
    page = drawn(white=True)
    options: Any = {"shape": shape, "background": background}
    np.testing.assert_array_equal(read(page, **options), read(page, preprocess="resize", **options))


@pytest.mark.parametrize(("model", "box"), [("mnist-mlp/2", 20 / 28), ("fashion-mlp/1", 1)])
def test_bundles_say_how_much_of_a_side_is_ink(model: str, box: float) -> None:
    assert box_of(np.load(MODELS / model / "golden.npz")["image"], 0) == pytest.approx(box)


def test_colour_and_empty_images_fill_their_side() -> None:
    assert box_of(np.zeros((2, 28, 28, 3), np.uint8), 0) == 1
    assert box_of(np.zeros((2, 28, 28), np.uint8), 0) == 1
