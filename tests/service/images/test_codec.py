from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import InvalidInput, LimitExceeded
from service.images import codec
from service.images.preprocess import Images, Preprocess
from tests.digits import decoded, digits, encoded
from tests.fuzz.pictures import run_length_bmp

SHAPE = (28, 28)
DIGIT = digits()[0]


def read(
    *pictures: bytes,
    preprocess: Preprocess = "resize",
    shape: tuple[int, ...] = SHAPE,
    background: int = 0,
    max_pixels: int = 25_000_000,
) -> Images:
    return codec.images_from_pictures(
        pictures, shape, preprocess=preprocess, background=background, max_pixels=max_pixels
    )


def faults(*pictures: bytes, preprocess: Preprocess = "resize", shape: tuple[int, ...] = SHAPE) -> dict[Any, str]:
    with pytest.raises(InvalidInput) as caught:
        read(*pictures, preprocess=preprocess, shape=shape)
    return {fault.path: fault.reason for fault in caught.value.faults}


class TestBase64:
    def test_bare_and_data_uri_are_the_same_bytes(self) -> None:
        text = base64.b64encode(b"picture").decode()
        assert codec.base64_bytes(text) == b"picture"
        assert codec.base64_bytes(f"data:image/png;base64,{text}") == b"picture"
        assert codec.base64_bytes(f"data:image/svg+xml;charset=utf-8;base64,{text}") == b"picture"

    def test_line_breaks_as_command_lines_write_them_are_allowed(self) -> None:
        data = bytes(range(256))
        assert codec.base64_bytes(base64.encodebytes(data).decode()) == data

    @pytest.mark.parametrize("text", ["%", "abc", "ab=c", "YQ", "YQ===", "é", "data:image/png;base64,%"])
    def test_what_is_not_base64_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="Not base64"):
            codec.base64_bytes(text)

    @pytest.mark.parametrize("text", ["data:image/png,abc", "data:,hello", "data:"])
    def test_a_data_uri_without_base64_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"The data: URI is not base64\."):
            codec.base64_bytes(text)

    @pytest.mark.parametrize("url", ["http://example.org/7.png", "https://example.org/7.png"])
    def test_urls_are_not_fetched(self, url: str) -> None:
        with pytest.raises(ValueError, match="URLs are not fetched"):
            codec.base64_bytes(url)


class TestAnyPicture:
    """Pictures of a digit in every dress that people send are that digit, bit for bit, when nothing is lossy."""

    def test_every_digit_survives_a_png_bit_for_bit(self) -> None:
        np.testing.assert_array_equal(read(*[encoded(digit) for digit in digits()]), digits())

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
    def test_any_mode_is_the_same_digit(self, mode: str) -> None:
        np.testing.assert_array_equal(read(encoded(Image.fromarray(DIGIT).convert(mode)))[0], DIGIT)

    def test_a_palette_may_be_in_any_order(self) -> None:
        picture = Image.fromarray(255 - DIGIT, "L").convert("P")
        picture.putpalette([level for index in range(256) for level in [255 - index] * 3])
        np.testing.assert_array_equal(read(encoded(picture))[0], DIGIT)

    def test_sixteen_bits_are_scaled_not_clipped(self) -> None:
        picture = Image.fromarray(DIGIT.astype(np.uint16) * 257)
        assert picture.mode == "I;16"
        np.testing.assert_array_equal(read(encoded(picture))[0], DIGIT)

    def test_one_bit_is_black_and_white(self) -> None:
        ink = DIGIT > 127
        np.testing.assert_array_equal(read(encoded(Image.fromarray(ink)))[0], ink * np.uint8(255))

    def test_an_interlaced_png_is_read(self) -> None:
        np.testing.assert_array_equal(read(interlaced_png(DIGIT))[0], DIGIT)

    @pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {})])
    def test_other_lossless_formats_are_the_same_digit(self, kind: str, options: dict[str, Any]) -> None:
        np.testing.assert_array_equal(read(encoded(DIGIT, kind, **options))[0], DIGIT)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_a_jpeg_is_nearly_the_digit(self, mode: str) -> None:
        image = read(encoded(Image.fromarray(DIGIT).convert("RGB").convert(mode), "JPEG", quality=95))[0]
        assert np.abs(image.astype(int) - DIGIT).mean() < 3

    @pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
    def test_a_camera_turned_by_exif_is_turned_back(self, orientation: int, turns: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        lying = np.rot90(DIGIT, -turns)
        np.testing.assert_array_equal(read(encoded(lying, "PNG", exif=exif))[0], DIGIT)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
    def test_of_a_moving_picture_the_first_frame_counts(self, kind: str) -> None:
        frames = [Image.fromarray(digit) for digit in digits()[:3]]
        options = {"lossless": True} if kind == "WEBP" else {}
        film = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read(film)[0], digits()[0])

    @pytest.mark.parametrize("background", [0, 77, 255])
    def test_what_is_transparent_shows_the_background(self, background: int) -> None:
        picture = Image.fromarray(
            np.dstack([np.full(SHAPE, 200, np.uint8), np.where(DIGIT > 0, 255, 0)]).astype(np.uint8)
        )
        image = read(encoded(picture), background=background)[0]
        np.testing.assert_array_equal(image, np.where(DIGIT > 0, 200, background))

    def test_a_transparent_colour_of_a_palette_shows_the_background(self) -> None:
        picture = Image.fromarray(DIGIT, "L").convert("P")
        image = read(encoded(picture, "PNG", transparency=0), background=9)[0]
        np.testing.assert_array_equal(image, np.where(DIGIT == 0, 9, DIGIT))

    def test_a_colour_model_gets_colours(self) -> None:
        colours = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (28, 28, 3), np.uint8)
        np.testing.assert_array_equal(read(encoded(colours), shape=(28, 28, 3))[0], colours)
        grey = read(encoded(DIGIT), shape=(28, 28, 3))[0]
        np.testing.assert_array_equal(grey, np.repeat(DIGIT[..., None], 3, axis=2))


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
        [(np.zeros((28, 27), np.uint8), "28x27 L"), (np.zeros((28, 28, 3), np.uint8), "28x28 RGB")],
    )
    def test_anything_else_is_refused_and_says_what_it_is(self, picture: Images, found: str) -> None:
        reasons = faults(encoded(picture), preprocess="none")
        assert reasons[("images", 0)].startswith(f"The picture is {found}, not 28x28 L")


class TestDigit:
    """`digit` brings a digit from a scan, a photo or a canvas back to what MNIST's makers made of it."""

    @staticmethod
    def off(pictures: Sequence[bytes], count: int) -> float:
        """Mean difference to the original digits, in grey levels; two different digits are about 40 apart."""
        images = read(*pictures, preprocess="digit")
        return float(np.abs(images.astype(int) - digits()[:count]).mean())

    def test_specks_that_vanish_when_scaled_are_no_ink(self) -> None:
        page = np.zeros((500, 500), np.uint8)
        page[0, 0] = page[499, 499] = 255
        assert faults(encoded(page), preprocess="digit") == {("images", 0): "There is no ink in the picture."}

    def test_mnist_itself_comes_out_as_it_went_in(self) -> None:
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

    @pytest.mark.parametrize("shape", [(1, 1), (200, 1), (1, 200)])
    def test_slivers_do_not_break_it(self, shape: tuple[int, int]) -> None:
        page = np.zeros((300, 300), np.uint8)
        page[100 : 100 + shape[0], 50 : 50 + shape[1]] = 255
        assert read(encoded(page), preprocess="digit").max() == 255

    def test_a_colour_model_has_no_digits(self) -> None:
        reasons = faults(encoded(DIGIT), preprocess="digit", shape=(28, 28, 3))
        assert "grey" in reasons[("images", 0)]


class TestBadPictures:
    GOOD = encoded(DIGIT)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not a picture",
            b"\x89PNG\r\n\x1a\n",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"GIF89a",
            b"%PDF-1.7",
        ],
    )
    def test_what_is_no_picture_is_refused(self, data: bytes) -> None:
        assert faults(data) == {("images", 0): "Not a picture that can be read (PNG, JPEG, WEBP, GIF, BMP)."}

    def test_a_format_that_is_not_on_the_list_stays_closed(self) -> None:
        assert "Not a picture" in faults(encoded(DIGIT, "TIFF"))[("images", 0)]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
    def test_a_picture_cut_short_anywhere_is_refused_or_whole(self, kind: str) -> None:
        whole = encoded(DIGIT, kind)
        pixels = read(whole)
        for length in range(len(whole)):
            try:
                images = read(whole[:length])
            except InvalidInput:
                continue
            np.testing.assert_array_equal(images, pixels)  # only what follows the pixels was lost

    def test_each_bad_picture_is_named_and_the_good_ones_are_not(self) -> None:
        assert list(faults(self.GOOD, b"bad", self.GOOD, self.GOOD[:60])) == [("images", 1), ("images", 3)]

    def test_a_decompression_bomb_is_refused_by_its_header(self) -> None:
        with pytest.raises(LimitExceeded, match="3600000000 pixels in all; at most 25000000"):
            read(png_header(60_000, 60_000))

    def test_many_pictures_share_one_limit(self) -> None:
        assert read(self.GOOD, self.GOOD, max_pixels=2 * 784).shape == (2, 28, 28)
        with pytest.raises(LimitExceeded):
            read(self.GOOD, self.GOOD, self.GOOD, max_pixels=3 * 784 - 1)

    def test_a_text_chunk_that_inflates_without_end_is_refused(self) -> None:
        bomb = b"zTXt", b"comment\0\0" + zlib.compress(bytes(100_000_000), 9)
        assert faults(png(DIGIT, bomb)) == {
            ("images", 0): "Not a picture that can be read (PNG, JPEG, WEBP, GIF, BMP)."
        }

    def test_what_pillow_says_of_a_broken_picture_is_not_passed_on(self) -> None:
        late = png(DIGIT)[:-12] + chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(10_000_000))) + png(DIGIT)[-12:]
        assert faults(late) == {("images", 0): "The picture is broken and cannot be decoded."}

    def test_pixels_whose_checksum_is_wrong_are_refused_by_both_readers(self) -> None:
        damaged = png(DIGIT)[:-16] + bytes(4) + png(DIGIT)[-12:]
        assert codec.images_from_small_pngs([damaged], SHAPE, max_pixels=784) is None
        assert "checksum" in faults(damaged)[("images", 0)]

    def test_a_run_length_bmp_which_takes_seconds_to_read_is_refused(self) -> None:
        assert "run-length" in faults(run_length_bmp(4_000, 4_000, b"\0\0\0\1"))[("images", 0)]


class TestNpy:
    @staticmethod
    def read(
        array: Any, preprocess: Preprocess = "resize", shape: tuple[int, ...] = SHAPE, max_pixels: int = 10**6
    ) -> Images:
        data = array if isinstance(array, bytes) else codec.npy_bytes(array)
        return codec.images_from_npy(
            data, shape, preprocess=preprocess, background=0, max_batch=8, max_pixels=max_pixels
        )

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_batch_of_the_models_shape_is_used_bit_for_bit(self, order: Any) -> None:
        np.testing.assert_array_equal(self.read(np.asarray(digits()[:8], order=order)), digits()[:8])

    def test_another_size_is_resized_or_refused(self) -> None:
        large = np.kron(digits()[:3], np.ones((1, 2, 2), np.uint8)).astype(np.uint8)
        np.testing.assert_array_equal(self.read(large), digits()[:3])
        with pytest.raises(InvalidInput) as caught:
            self.read(large, preprocess="none")
        assert caught.value.faults[0].reason == "The images are 56x56, not 28x28."

    def test_digit_works_on_arrays_too(self) -> None:
        paper = np.kron(255 - digits()[:8], np.ones((1, 3, 3), np.uint8)).astype(np.uint8)
        assert np.abs(self.read(paper, preprocess="digit").astype(int) - digits()[:8]).mean() < 1

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 28, 28), np.float32),
            np.zeros((28, 28), np.uint8),
            np.zeros((2, 28, 28, 4), np.uint8),
            np.zeros((2, 0, 28), np.uint8),
            np.zeros(3, [("a", "u1")]),
        ],
        ids=["floats", "one image", "four channels", "no pixels", "records"],
    )
    def test_arrays_that_are_no_images_are_refused(self, array: Any) -> None:
        with pytest.raises(InvalidInput):
            self.read(array)

    def test_nothing_is_ever_unpickled(self) -> None:
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(InvalidInput):
            self.read(stream.getvalue())

    @pytest.mark.parametrize(
        "shape",
        [
            "(1000000000000, 28, 28)",
            "(-1, 28, 28)",
            "(2, 28, 28)",
            "(0, 28, 28)",
            f"(0x{'f' * 9000}, 28, 28)",  # more digits than Python writes
        ],
    )
    def test_a_header_that_lies_about_its_size_allocates_nothing(self, shape: str) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}") + bytes(784))

    def test_no_images_of_a_size_that_no_array_can_have_are_refused(self) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 9223372036854775807, 28), }"))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\x01\x00\xff\xff",
            b"\x93NUMPY\x09\x00" + bytes(100),
            codec.npy_bytes(DIGIT)[:40],
        ],
    )
    def test_broken_headers_are_refused(self, data: bytes) -> None:
        with pytest.raises(InvalidInput):
            self.read(data)

    @pytest.mark.parametrize("header", ["__import__('os').abort()", "[" * 5000, "{'descr': {}, 1: 2}", "{}", "\0"])
    def test_a_header_is_parsed_not_evaluated(self, header: str) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header(header))

    def test_batch_and_pixel_limits_hold(self) -> None:
        with pytest.raises(LimitExceeded, match="9 items in one request; at most 8"):
            self.read(np.zeros((9, 28, 28), np.uint8))
        with pytest.raises(LimitExceeded, match="pixels"):
            self.read(np.zeros((8, 56, 56), np.uint8), max_pixels=8 * 56 * 56 - 1)


class TestGrid:
    @pytest.mark.parametrize(
        ("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (10, 3, 4), (64, 8, 8)]
    )
    def test_image_k_lies_at_row_k_over_columns(self, count: int, rows: int, columns: int) -> None:
        picture = codec.grid(digits()[:count], 9)
        assert picture.shape == (rows * 28, columns * 28)
        for k in range(rows * columns):
            top, left = k // columns * 28, k % columns * 28
            cell = picture[top : top + 28, left : left + 28]
            np.testing.assert_array_equal(cell, digits()[k] if k < count else 9)

    def test_colours_stay_colours(self) -> None:
        images = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (3, 6, 4, 3), np.uint8)
        picture = codec.grid(images, 0)
        assert picture.shape == (12, 8, 3)
        np.testing.assert_array_equal(picture[6:, :4], images[2])


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (6, 4, 3), (64, 64), (65, 64), (100, 80, 3)])
def test_an_images_png_is_that_image(shape: tuple[int, ...]) -> None:
    images = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (3, *shape), np.uint8)
    files = codec.png_files(images)
    np.testing.assert_array_equal(np.stack([decoded(file) for file in files]), images)
    for file in files:  # checks every chunk's CRC, which reading does not
        Image.open(io.BytesIO(file)).verify()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def png(image: Images, *extra: tuple[bytes, bytes], interlace: int = 0, data: bytes | None = None) -> bytes:
    """A grey PNG written by hand, with extra chunks before its pixels."""
    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    rows = b"".join(b"\0" + row.tobytes() for row in image) if data is None else data
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def interlaced_png(image: Images) -> bytes:
    """An Adam7 PNG (Pillow writes none): seven passes, each a coarse picture of its own."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for top, left, down, right in passes for row in image[top::down, left::right]]
    return png(image, interlace=1, data=b"".join(rows))


def npy_header(text: str) -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
