"""Estimates of memory are upper bounds of what pictures really take."""

from __future__ import annotations

import base64
import gc
import io
import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.digits import digits
from harness.photos import photo
from service import limits
from service.errors import InvalidInput
from service.images import codec
from service.images.costs import base64_cost
from tests.fuzz.pictures import chunk, png, tiff
from tests.service.images.meter import Meter, peak_of

MIB = 2**20
SIZE = (1500, 1200)
TURNED = Image.Exif()
TURNED[0x112] = 6


@pytest.fixture(autouse=True)
def freed_memory_is_given_back() -> None:
    limits.give_memory_back()


def speckled(share: float, spot: int) -> bytes:
    """A photo of spots of so many pixels a side, which cover this share of it: many components."""
    spots = np.random.default_rng(0).random((1024 // spot, 1024 // spot)) < share
    page = 255 - 200 * np.kron(spots, np.ones((spot, spot), np.uint8)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(page).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def picture(mode: str, kind: str, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """A picture file with some ink on it."""
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255
    drawn = Image.fromarray(pixels)
    if mode == "I;16":
        drawn = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        drawn = drawn.convert("RGB").quantize(16) if mode == "P" else drawn.convert(mode)
    stream = io.BytesIO()
    drawn.save(stream, kind, **options)
    return stream.getvalue()


PICTURES = {
    "grey PNG": picture("L", "PNG"),
    "grey PNG, turned": picture("L", "PNG", exif=TURNED),
    "RGB PNG": picture("RGB", "PNG"),
    "RGB PNG, turned": picture("RGB", "PNG", exif=TURNED),
    "RGBA PNG, turned": picture("RGBA", "PNG", exif=TURNED),
    "RGB PNG with a transparent colour": picture("RGB", "PNG", transparency=(0, 0, 0)),
    "grey PNG with an alpha channel": picture("LA", "PNG"),
    "PNG with a palette": picture("P", "PNG"),
    "PNG with a palette, transparent": picture("P", "PNG", transparency=1),
    "16-bit PNG": picture("I;16", "PNG"),
    "1-bit PNG": picture("1", "PNG"),
    "JPEG": picture("RGB", "JPEG"),
    "progressive JPEG": picture("RGB", "JPEG", progressive=True, subsampling=0),
    "progressive grey JPEG": picture("L", "JPEG", progressive=True),
    "progressive CMYK JPEG": picture("CMYK", "JPEG", progressive=True),
    "WebP": picture("RGB", "WEBP", quality=50),
    "lossless WebP": picture("RGBA", "WEBP", lossless=True),
    "WebP, turned": picture("RGBA", "WEBP", exif=TURNED.tobytes()),
    "GIF": picture("P", "GIF"),
    "transparent GIF": picture("P", "GIF", transparency=1),
    "BMP": picture("RGB", "BMP"),
    "grey TIFF": picture("L", "TIFF"),
    "RGBA TIFF, turned": picture("RGBA", "TIFF", tiffinfo={0x0112: 6}),
    "16-bit TIFF": picture("I;16", "TIFF"),
    "1-bit TIFF": picture("1", "TIFF"),
    "TIFF with a palette": picture("P", "TIFF"),
    "CMYK TIFF, turned": picture("CMYK", "TIFF", tiffinfo={0x0112: 6}),
    "TIFF of 10,000 strips": tiff(width=1, height=10_000, rows=1, offsets=(*range(10_000),), counts=(1,) * 10_000),
    "photo of a digit": photo(digits()[0], seed=0),
    "photo of fine texture": speckled(0.3, 4),
    "photo of coarse texture": speckled(0.2, 8),
    "tall PNG": picture("RGBA", "PNG", (1, 500_000)),
    "wide PNG": picture("RGB", "PNG", (500_000, 1)),
    "narrow JPEG": picture("RGB", "JPEG", (8, 60_000), progressive=True, subsampling=0),
}


def read(name: str, preprocess: Any, shape: tuple[int, ...], meter: Meter) -> None:
    options: Any = {"preprocess": preprocess, "background": 0, "max_pixels": 10**9, "hold": meter}
    try:
        codec.images_from_pictures([PICTURES[name]], shape, **options)
    except InvalidInput:  # a page without ink, or of another size
        gc.collect(0)


@pytest.fixture(scope="module")
def _loaded() -> None:
    """What is loaded once, for a kind of picture or a way to prepare it, is not a picture's."""
    for name in PICTURES:
        read(name, "none", (28, 28), Meter())
    for preprocess in ("auto", "resize", "digit"):
        read("photo of a digit", preprocess, (28, 28), Meter())


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize("shape", [(28, 28), (64, 64, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("preprocess", ["auto", "resize", "digit", "none"])
@pytest.mark.parametrize("name", PICTURES)
def test_no_picture_takes_more_than_is_reserved(name: str, preprocess: Any, shape: tuple[int, ...]) -> None:
    meter = Meter()
    peak = peak_of(partial(read, name, preprocess, shape, meter))
    assert peak <= meter.most
    assert meter.now == 0


@pytest.mark.parametrize("columns", [False, True], ids=["rows first", "columns first"])
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_no_array_takes_more_than_is_reserved(channels: tuple[int, ...], columns: bool) -> None:
    meter = Meter()
    array = np.zeros((2, 1500, 1200, *channels), np.uint8)
    array[:, 300:900, 500:600] = 255
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(array) if columns else array)
    data = stream.getvalue()
    options: Any = {"preprocess": "digit", "background": 0, "max_batch": 9, "max_pixels": 10**9, "hold": meter}
    codec.images_from_npy(data, (28, 28), **options)
    assert peak_of(lambda: codec.images_from_npy(data, (28, 28), **options)) <= meter.most
    assert meter.now == 0


@pytest.mark.parametrize(
    "text",
    [
        "A" * 8 * MIB,
        "QUJD\r\n" * MIB,
        "data:image/png;base64," + "A" * 8 * MIB,
        "AB " * 2 * MIB,
        "data:a/a" + ";a" * 4 * MIB,
    ],
    ids=["one line", "many lines", "data: URI", "no base64", "a head without an end"],
)
def test_no_base64_takes_more_than_is_reserved(text: str) -> None:
    def decode() -> None:
        try:
            codec.base64_bytes(text)
        except ValueError:
            gc.collect(0)

    assert peak_of(decode) <= base64_cost(text)


def test_pictures_are_unpacked_one_at_a_time() -> None:
    """Each holds its texts, a thousand times as long as in the file, or its list of strips, until it is closed."""
    texts = [chunk(b"zTXt", b"%d\0\0" % index + _zeros(MIB // 4)) for index in range(4)]
    options: Any = {"preprocess": "resize", "background": 0, "max_pixels": 10**9}
    for file in (png(*texts), PICTURES["TIFF of 10,000 strips"]):
        assert peak_of(partial(codec.images_from_pictures, [file] * 50, (28, 28), **options)) < 16 * MIB


def _zeros(size: int) -> bytes:
    return zlib.compress(b"a" * (size - 64), 9)


def test_only_the_files_that_matter_stay() -> None:
    """What is reserved for the files of a request in base64 is freed with the request: they are held until then."""
    meter = Meter()
    file = PICTURES["grey PNG"]
    text = base64.b64encode(file).decode()
    options: Any = {"preprocess": "resize", "background": 0, "max_pixels": 10**9, "hold": meter}
    codec.images_from_pictures([text] * 3, (28, 28), **options)
    assert meter.now == 3 * len(file)
