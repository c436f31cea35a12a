"""Which library reads and writes a digit's picture fastest: the measurements behind the service's choice.

    python -m bench.codecs

Lists what is installed beside the service's own choices; to see the others, first `pip install imagecodecs
opencv-python-headless isal deflate`. Times are of 200 real digits, per digit, the best of seven.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
import timeit
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image

from harness.digits import digits, encoded
from service.images import codec

DIGITS: Final = digits()[:200]
FILES: Final = [encoded(digit) for digit in DIGITS]
TEXTS: Final = [base64.b64encode(file).decode() for file in FILES]
ROWS: Final = [np.pad(digit, ((0, 0), (1, 0))).tobytes() for digit in DIGITS]  # each row begins with its filter


def main() -> None:
    """Measure and print."""
    print("| task | library | us a digit | bytes |\n|---|---|---|---|")
    base64_, spng, cv2, imagecodecs = map(module, ("pybase64", "pyspng", "cv2", "imagecodecs"))
    row("base64 to bytes", "binascii, strict", TEXTS, lambda text: binascii.a2b_base64(text, strict_mode=True))
    row("", "**pybase64**, strict", TEXTS, base64_ and (lambda text: base64_.b64decode(text, validate=True)))
    row("PNG to array", "Pillow", FILES, lambda file: np.asarray(Image.open(io.BytesIO(file), formats=("PNG",))))
    row("", "OpenCV", FILES, cv2 and (lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)))
    row("", "imagecodecs, libspng", FILES, imagecodecs and imagecodecs.spng_decode)
    row("", "**pyspng**, libspng", FILES, spng and spng.load)
    row("array to PNG", "Pillow, level 1", list(DIGITS), lambda digit: encoded(digit, compress_level=1))
    row("", "OpenCV", list(DIGITS), cv2 and (lambda digit: cv2.imencode(".png", digit)[1].tobytes()))
    row("", "imagecodecs, libpng, level 1", list(DIGITS), imagecodecs and (lambda d: imagecodecs.png_encode(d, 1)))
    row("", "**by hand on zlib-ng**, level 1", list(DIGITS), lambda digit: codec.png_files(digit[np.newaxis])[0])
    row("deflate alone", "zlib, level 1", ROWS, lambda rows: zlib.compress(rows, 1))
    for name, library, level in (
        ("**zlib-ng**", "zlib_ng.zlib_ng", 1),
        ("ISA-L", "isal.isal_zlib", 0),
        ("ISA-L", "isal.isal_zlib", 1),
    ):
        row("", f"{name}, level {level}", ROWS, deflate(module(library), level))
    library = module("deflate")
    row("", "libdeflate, level 1", ROWS, library and (lambda rows: library.zlib_compress(rows, 1)))


def module(name: str) -> Any:
    """A library, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def deflate(library: Any, level: int) -> Callable[[bytes], bytes] | None:
    """A library's compressor at a level."""
    return library and (lambda rows: library.compress(rows, level))


def row(task: str, library: str, items: list[Any], work: Callable[[Any], Any] | None) -> None:
    """Print one row: the time of one item and, if the result is bytes, their number."""
    if work is None:
        print(f"| {task} | {library} | not installed | |")
        return
    seconds = min(timeit.repeat(lambda: [work(item) for item in items], number=3, repeat=7)) / 3
    results = [work(item) for item in items]
    size = f"{sum(map(len, results)) / len(results):.0f}" if isinstance(results[0], bytes) else ""
    print(f"| {task} | {library} | {seconds / len(items) * 1e6:.2f} | {size} |")


if __name__ == "__main__":
    main()
