from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.digits import decoded, digits, encoded
from service.errors import InvalidInput, LimitExceeded
from service.images import codec
from service.images.preprocess import Images
from tests.fuzz.pictures import chunk, deflated_zeros, header, png, rows, run_length_bmp
from tests.service.images.reading import DIGIT, SHAPE, faults, read


def interlaced_png(image: Images) -> bytes:
    """An interlaced PNG (Adam7), which Pillow cannot write: seven passes, each a coarser picture."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    filtered = b"".join(rows(image[top::down, left::right]) for top, left, down, right in passes)
    start = header(image.shape[1], image.shape[0], interlace=1)
    return start + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


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
    """A digit in any lossless format and mode is read bit for bit."""

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
    def test_the_exif_orientation_is_applied(self, orientation: int, turns: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        lying = np.rot90(DIGIT, -turns)
        np.testing.assert_array_equal(read(encoded(lying, "PNG", exif=exif))[0], DIGIT)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
    def test_the_first_frame_of_an_animation_is_used(self, kind: str) -> None:
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
    def test_a_file_that_is_not_a_picture_is_refused(self, data: bytes) -> None:
        assert faults(data) == {("images", 0): "Not a picture that can be read (PNG, JPEG, WEBP, GIF, BMP, TIFF)."}

    def test_other_formats_are_refused(self) -> None:
        assert "Not a picture" in faults(encoded(DIGIT, "PPM"))[("images", 0)]

    def test_avif_is_refused_with_what_to_send_instead(self) -> None:
        assert "AVIF and HEIF files are not read" in faults(encoded(DIGIT, "AVIF"))[("images", 0)]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_a_truncated_picture_is_refused_unless_all_its_pixels_are_there(self, kind: str) -> None:
        whole = encoded(DIGIT, kind)
        pixels = read(whole)
        for length in range(len(whole)):
            try:
                images = read(whole[:length])
            except InvalidInput:
                continue
            np.testing.assert_array_equal(images, pixels)  # only bytes after the pixels are missing

    def test_each_bad_picture_is_named_and_the_good_ones_are_not(self) -> None:
        assert list(faults(self.GOOD, b"bad", self.GOOD, self.GOOD[:60])) == [("images", 1), ("images", 3)]

    def test_a_decompression_bomb_is_refused_by_its_header(self) -> None:
        with pytest.raises(LimitExceeded, match="3600000000 pixels in all; at most 25000000"):
            read(header(60_000, 60_000) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))

    def test_many_pictures_share_one_limit(self) -> None:
        assert read(self.GOOD, self.GOOD, max_pixels=2 * 784).shape == (2, 28, 28)
        with pytest.raises(LimitExceeded):
            read(self.GOOD, self.GOOD, self.GOOD, max_pixels=3 * 784 - 1)

    def test_a_text_chunk_that_inflates_without_end_is_refused(self) -> None:
        bomb = chunk(b"zTXt", b"comment\0\0" + deflated_zeros(100_000_000))
        assert "Not a picture" in faults(png(bomb))[("images", 0)]

    def test_messages_of_pillow_are_not_shown_to_clients(self) -> None:
        late = png()[:-12] + chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(10_000_000))) + png()[-12:]
        assert faults(late) == {("images", 0): "The picture is broken and cannot be decoded."}

    def test_pixels_whose_checksum_is_wrong_are_refused_by_both_readers(self) -> None:
        damaged = png()[:-16] + bytes(4) + png()[-12:]
        assert codec.images_from_small_pngs([damaged], SHAPE, max_pixels=784) is None
        assert "checksum" in faults(damaged)[("images", 0)]

    def test_a_run_length_bmp_which_takes_seconds_to_read_is_refused(self) -> None:
        assert "run-length" in faults(run_length_bmp(4_000, 4_000, b"\0\0\0\1"))[("images", 0)]


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

    @pytest.mark.parametrize("columns", [1, 3, 7])
    def test_its_columns_can_be_chosen(self, columns: int) -> None:
        picture = codec.grid(digits()[:7], 9, columns)
        assert picture.shape == (-(-7 // columns) * 28, columns * 28)
        for k in range(7):
            top, left = k // columns * 28, k % columns * 28
            np.testing.assert_array_equal(picture[top : top + 28, left : left + 28], digits()[k])

    def test_colours_stay_colours(self) -> None:
        images = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (3, 6, 4, 3), np.uint8)
        picture = codec.grid(images, 0)
        assert picture.shape == (12, 8, 3)
        np.testing.assert_array_equal(picture[6:, :4], images[2])


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (6, 4, 3), (64, 64), (65, 64), (100, 80, 3)])
def test_the_png_of_an_image_decodes_to_that_image(shape: tuple[int, ...]) -> None:
    images = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (3, *shape), np.uint8)
    files = codec.png_files(images)
    np.testing.assert_array_equal(np.stack([decoded(file) for file in files]), images)
    for file in files:  # verify() checks the CRC of every chunk; reading does not
        Image.open(io.BytesIO(file)).verify()
