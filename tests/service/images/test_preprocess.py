"""What `preprocess` does to a picture: `resize`, `none` and `digit`. `auto` is in test_auto.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw

from harness.digits import digits, encoded
from service.images.preprocess import Images
from tests.service.images.reading import DIGIT, SHAPE, faults, read


class TestResize:
    def test_shrinking_averages_areas(self) -> None:
        large = np.kron(DIGIT, np.ones((10, 10), np.uint8)).astype(np.uint8)
        np.testing.assert_array_equal(read(encoded(large))[0], DIGIT)

    def test_the_aspect_is_kept_in_the_middle_of_the_background(self) -> None:
        image = read(encoded(np.full((56, 28), 200, np.uint8)), background=5)[0]
        np.testing.assert_array_equal(image[:, 7:21], 200)
        np.testing.assert_array_equal(np.delete(image, np.s_[7:21], axis=1), 5)

    @pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 7), (4000, 3000)])
    def test_any_size_fits(self, size: tuple[int, int]) -> None:
        assert read(encoded(np.full(size, 128, np.uint8))).shape == (1, *SHAPE)

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_large_jpeg_gives_the_averages_of_its_pixels(self, mode: str) -> None:
        large = np.kron(DIGIT, np.ones((64, 64), np.uint8)).astype(np.uint8)
        image = read(encoded(Image.fromarray(large).convert(mode), "JPEG", quality=95))[0]
        assert np.abs(image.astype(int) - DIGIT).max() <= 3


class TestNone:
    def test_a_picture_of_the_models_shape_is_used_bit_for_bit(self) -> None:
        np.testing.assert_array_equal(read(encoded(DIGIT), preprocess="none")[0], DIGIT)

    @pytest.mark.parametrize(
        ("picture", "found"),
        [(np.zeros((28, 27), np.uint8), "27x28 L"), (np.zeros((28, 28, 3), np.uint8), "28x28 RGB")],
    )
    def test_anything_else_is_refused_and_says_what_it_is(self, picture: Images, found: str) -> None:
        reasons = faults(encoded(picture), preprocess="none")
        assert reasons[("images", 0)].startswith(f"The picture is {found}, not 28x28 L")


class TestDigit:
    """`digit` restores MNIST digits from scans, photos and drawings."""

    @staticmethod
    def off(pictures: Sequence[bytes], count: int) -> float:
        """The mean difference from the original digits, in grey levels. Between two different digits it is about 40."""
        images = read(*pictures, preprocess="digit")
        return float(np.abs(images.astype(int) - digits()[:count]).mean())

    @pytest.mark.parametrize("side", [1, 5])
    def test_a_page_of_specks_has_no_digit(self, side: int) -> None:
        page = np.zeros((500, 500), np.uint8)
        page[:side, :side] = page[-side:, -side:] = page[200 : 200 + side, 250 : 250 + side] = 255
        reasons = faults(encoded(page), preprocess="digit")
        assert reasons == {("images", 0): "There are only specks in the picture, no digit."}

    def test_mnist_images_hardly_change(self) -> None:
        assert self.off([encoded(digit) for digit in digits()[:50]], 50) < 0.5

    @pytest.mark.parametrize("invert", [False, True], ids=["white on black", "black on white"])
    def test_a_large_drawing_off_centre_is_found_whatever_its_polarity(self, invert: bool) -> None:
        pictures = []
        for digit in digits()[:50]:
            page = np.zeros((600, 800), np.uint8)
            page[30:310, 450:730] = np.asarray(Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC))
            pictures.append(encoded(255 - page if invert else page))
        assert self.off(pictures, 50) < 8

    @pytest.mark.parametrize("ink", [0, 255])
    def test_a_transparent_canvas_may_hold_dark_or_light_ink(self, ink: int) -> None:
        canvases = [np.dstack([np.full(SHAPE, ink, np.uint8), digit]) for digit in digits()[:50]]
        assert self.off([encoded(canvas) for canvas in canvases], 50) < 0.5

    def test_grey_paper_and_faint_ink_are_stretched(self) -> None:
        pages = [encoded((180 - digit // 4).astype(np.uint8)) for digit in digits()[:50]]
        assert self.off(pages, 50) < 2

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_an_empty_page_has_no_ink(self, level: int) -> None:
        reasons = faults(encoded(np.full((100, 100), level, np.uint8)), preprocess="digit")
        assert reasons == {("images", 0): "There is no ink in the picture."}

    @pytest.mark.parametrize("shape", [(200, 1), (1, 200), (200, 3)])
    def test_very_thin_strokes_are_read(self, shape: tuple[int, int]) -> None:
        page = np.zeros((300, 300), np.uint8)
        page[100 : 100 + shape[0], 50 : 50 + shape[1]] = 255
        assert read(encoded(page), preprocess="digit").max() == 255

    def test_of_several_marks_the_largest_central_one_is_the_digit(self) -> None:
        page = np.zeros((480, 640), np.uint8)
        page[10:66, 10:66] = np.kron(digits()[1], np.ones((2, 2), np.uint8))
        page[400:456, 500:556] = np.kron(digits()[2], np.ones((2, 2), np.uint8))
        page[130:326, 220:416] = np.kron(DIGIT, np.ones((7, 7), np.uint8))
        assert np.abs(read(encoded(255 - page), preprocess="digit")[0].astype(int) - DIGIT).mean() < 2

    def test_pieces_of_one_digit_stay_together(self) -> None:
        page = np.zeros((400, 400), np.uint8)
        page[100:120, 160:260] = 255  # the bar of a 5
        page[140:300, 150:170] = 255
        page[280:300, 150:260] = 255
        page[5:15, 5:15] = 255  # a speck
        image = read(encoded(page), preprocess="digit")[0]
        rows = np.flatnonzero(image.any(axis=1))
        assert rows[-1] - rows[0] + 1 == 20
        assert not image[rows[0] + 3].any()  # between bar and body

    def test_slant_is_left_alone(self) -> None:
        page = np.zeros((300, 300), np.uint8)
        for row in range(60, 240):
            page[row, 240 - row : 260 - row] = 255
        image = read(encoded(page), preprocess="digit")[0]
        np.testing.assert_array_less(np.diff([line.argmax() for line in image if line.any()]), 1)

    @pytest.mark.parametrize(
        ("draw", "reason"),
        [
            (lambda page: page.ellipse([100, 100, 300, 300], fill=0), "a solid shape"),
            (lambda page: _face(page), "a drawing of many parts"),
            (
                lambda page: [page.line([x, y, x + 30, y + 30], 0, 4) for x in range(30, 350, 50) for y in (90, 180)],
                "many",
            ),
        ],
        ids=["a disc", "a face", "dashes"],
    )
    def test_a_drawing_of_something_else_is_refused(
        self, draw: Callable[[ImageDraw.ImageDraw], object], reason: str
    ) -> None:
        page = Image.new("L", (400, 400), 255)
        draw(ImageDraw.Draw(page))
        assert reason in faults(encoded(page), preprocess="digit")[("images", 0)]

    def test_a_colour_model_has_no_digits(self) -> None:
        reasons = faults(encoded(DIGIT), preprocess="digit", shape=(28, 28, 3))
        assert "grey" in reasons[("images", 0)]


def _face(page: ImageDraw.ImageDraw) -> None:
    page.ellipse([80, 60, 320, 340], outline=0, width=14)
    for left in (140, 220):
        page.ellipse([left, 150, left + 34, 184], fill=0)
    page.arc([140, 190, 260, 280], 20, 160, 0, 12)
