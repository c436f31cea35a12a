from __future__ import annotations

import time

import numpy as np
import pytest

from harness.digits import digits, encoded
from service.images.blocks import check_blocks
from tests.fuzz.pictures import animation, chunk, gif_of_blocks, jpeg, jpeg_of_scans, png, segments

PHOTO = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (600, 800, 3), np.uint8)


@pytest.mark.parametrize(
    "file",
    [
        *(encoded(PHOTO, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")),
        encoded(PHOTO, "JPEG", progressive=True),
        *(animation(kind) for kind in ("PNG", "GIF", "WEBP")),
        jpeg(segments(0xE2, [bytes(60_000)] * 200)),
        png(*[chunk(b"tEXt", b"a\0b")] * 200),
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"GIF89a",
    ],
)
def test_ordinary_files_and_errors_that_the_decoder_finds_pass(file: bytes) -> None:
    check_blocks(file)
    check_blocks(file[: len(file) // 2])


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (jpeg_of_scans(100, 100), "too many JPEG scans"),
        (jpeg(segments(0xFE, [b""] * 2_000)), "too many JPEG segments"),
        (jpeg(bytes(16_000_000)), "too many bytes outside its JPEG segments"),
        (b"\xff\xd8" + b"\xff" * 16_000_000, "too many bytes outside its JPEG segments"),
        (png(*[chunk(b"prVt", b"")] * 2_000), "too many PNG chunks"),
        (png(*[chunk(b"IDAT", b"")] * 30_000), "too many PNG chunks"),
        (gif_of_blocks(b"!\xfe" + b"\1c" * 20_000 + b"\0"), "too many GIF blocks"),
        (gif_of_blocks(bytes(16_000_000)), "too many GIF blocks"),
    ],
    ids=["scans", "comments", "zeros", "0xFF", "chunks", "empty pixels", "pieces", "GIF zeros"],
)
def test_a_file_built_to_be_slow_is_refused_quickly(file: bytes, reason: str) -> None:
    before = time.thread_time()
    with pytest.raises(ValueError, match=reason):
        check_blocks(file)
    assert time.thread_time() - before < 0.5


def test_a_damaged_checksum_is_found_wherever_the_pixels_lie() -> None:
    whole = encoded(digits()[0])
    at = whole.index(b"IDAT") + 20
    with pytest.raises(ValueError, match="checksum"):
        check_blocks(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
