from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from harness.digits import Images, digits, encoded
from service.errors import InvalidInput, LimitExceeded
from service.images import codec
from service.images.tiff import MOST_STRIPS, plain_tiff
from tests.fuzz.pictures import hostile_tiffs, tiff

DIGIT = digits()[0]
GREY = Image.fromarray(DIGIT)


def read(file: bytes, **options: Any) -> Images:
    settings: dict[str, Any] = {"preprocess": "resize", "background": 0, "max_pixels": 10**6} | options
    (image,) = codec.images_from_pictures([file], (28, 28), **settings)
    return np.asarray(image)


def fault(file: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(file)
    return caught.value.faults[0].reason


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_is_the_same_digit(mode: str) -> None:
    np.testing.assert_array_equal(read(encoded(GREY.convert(mode), "TIFF")), DIGIT)


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_are_scaled_in_either_byte_order(big_endian: bool) -> None:
    values = DIGIT.astype(">u2" if big_endian else "<u2") * 257
    file = encoded(Image.frombytes("I;16B" if big_endian else "I;16", (28, 28), values.tobytes()), "TIFF")
    assert file.startswith(b"MM" if big_endian else b"II")
    np.testing.assert_array_equal(read(file), DIGIT)


def test_one_bit_is_black_and_white() -> None:
    ink = DIGIT > 127
    np.testing.assert_array_equal(read(encoded(Image.fromarray(ink), "TIFF")), ink * np.uint8(255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_its_orientation_is_applied_once(orientation: int) -> None:
    lying = {
        1: DIGIT,
        2: DIGIT[:, ::-1],
        3: DIGIT[::-1, ::-1],
        4: DIGIT[::-1],
        5: DIGIT.T,
        6: np.rot90(DIGIT),
        7: np.rot90(DIGIT, 2).T,
        8: np.rot90(DIGIT, -1),
    }[orientation]
    file = encoded(np.ascontiguousarray(lying), "TIFF", tiffinfo={0x0112: orientation})
    np.testing.assert_array_equal(read(file), DIGIT)


def test_strips_of_a_row_are_put_together() -> None:
    start = len(tiff(rows=1, offsets=(0,) * 28, counts=(28,) * 28)) - 784
    file = tiff(rows=1, offsets=tuple(range(start, start + 784, 28)), counts=(28,) * 28)
    np.testing.assert_array_equal(read(file), DIGIT)


def test_more_strips_than_a_program_writes_are_refused() -> None:
    def strips(count: int) -> bytes:
        return tiff(width=1, height=count, rows=1, offsets=tuple(range(count)), counts=(1,) * count)

    assert read(strips(MOST_STRIPS)).shape == (28, 28)
    assert fault(strips(MOST_STRIPS + 1)).startswith("TIFF files are read if")


def test_the_first_page_is_read() -> None:
    pages = [Image.fromarray(digit) for digit in digits()[:3]]
    file = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read(file), DIGIT)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_files_are_refused_with_what_is_read(compression: str) -> None:
    reason = fault(encoded(GREY, "TIFF", compression=compression))
    assert reason.startswith("TIFF files are read if they are uncompressed")


def test_numbers_that_are_no_grey_levels_are_refused() -> None:
    for mode in ("F", "I"):
        assert fault(encoded(GREY.convert(mode), "TIFF")).startswith("TIFF files are read if")


def test_the_size_of_a_picture_counts_before_its_pixels_are_read() -> None:
    with pytest.raises(LimitExceeded):
        read(encoded(GREY, "TIFF"), max_pixels=783)


def test_a_file_without_all_its_pixels_is_damaged() -> None:
    assert "does not fit its pixels" in fault(encoded(GREY, "TIFF")[:-1])
    assert "does not fit its pixels" in fault(tiff(counts=(783,)))


def test_pillow_sees_the_tags_that_were_checked_and_no_other() -> None:
    """Neither texts, nor profiles, nor directories that others point to."""
    file = encoded(GREY, "TIFF", description="a digit", icc_profile=b"profile", tiffinfo={0x0112: 1})
    picture = TiffImageFile(io.BytesIO(plain_tiff(file)))
    assert sorted(picture.tag_v2) == [256, 257, 258, 259, 262, 273, 274, 278, 279, 284]
    assert "icc_profile" not in picture.info
    np.testing.assert_array_equal(np.asarray(picture), DIGIT)


def test_nothing_is_written_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes there by itself, and so would any client."""
    for picture in hostile_tiffs():
        with contextlib.suppress(InvalidInput):
            read(picture.data)
    assert capfd.readouterr().err == ""
