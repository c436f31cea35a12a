"""Convert bytes to uint8 arrays and back: picture files, base64 and NumPy's format.

A picture becomes a uint8 array of the model's shape, [H, W] for grey or [H, W, 3] for colour, like the training data.
The graph scales it to [-1, 1]. Nothing here fetches URLs, executes code or unpickles data.
"""

from __future__ import annotations

import binascii
import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pybase64 import b64decode
from pyspng._pyspng_c import SPNG_FMT_G8, spng_decode_image_bytes  # pyspng.load without its choice of a format
from zlib_ng.zlib_ng import compress, crc32

from service.errors import Fault, InvalidInput, LimitExceeded
from service.images.blocks import check_blocks
from service.images.costs import TEXT_BYTES, Hold, array_cost, base64_cost, decode_cost, held, hold_nothing, open_cost
from service.images.digit import Found, UnusablePicture
from service.images.preprocess import MNIST_BOX, Fitted, Images, Preprocess, Target, draft, fit, size
from service.images.tiff import is_tiff, plain_tiff

Input = TypeVar("Input")
Number = TypeVar("Number", np.uint8, np.float32)
Output = TypeVar("Output")

# The formats that are accepted. Pillow's other formats are not: they are the larger part of its attack surface. The
# plugins of these six are imported above, because otherwise the first request would import all of Pillow's plugins.
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# Those that Pillow opens from the file as it came.
_BY_PILLOW: Final = ("PNG", "JPEG", "GIF", "BMP")

# VAE_MAX_PIXELS is checked with the sizes in the headers, before any pixel is decoded. So Pillow's own limit, which is
# global to the process, is not needed.
Image.MAX_IMAGE_PIXELS = None

PngImagePlugin.MAX_TEXT_MEMORY = TEXT_BYTES

_DATA_URI: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.=-]+)*;base64,")
_LONGEST_URI_HEAD: Final = 1024
_WHITE_SPACE: Final = b" \t\n\r\v\f"

# The most bytes of metadata with which an opened picture is kept until its turn; else its file is opened again.
_LIGHT_BYTES: Final = 4096

# Up to this size PNGs are written here, with unfiltered rows: for a digit this takes a sixth of Pillow's time. Larger
# images are written by Pillow, because filters make them smaller.
_SMALL_PNG_PIXELS: Final = 64 * 64
_IEND: Final = struct.pack(">I4sI", 0, b"IEND", crc32(b"IEND"))


def base64_bytes(text: str) -> bytes:
    """The bytes of a base64 text, bare or as a `data:` URI; line breaks and spaces are allowed.

    Raises ValueError, with one sentence, when it is anything else.
    """
    if text.startswith("data:"):
        # The pattern sees no more than a head can have: on a long text without an end it would take a gigabyte.
        head = _DATA_URI.match(text[:_LONGEST_URI_HEAD])
        if head is None:
            raise ValueError("The data: URI is not base64.")
        text = text[head.end() :]
    elif text.startswith(("http:", "https:")):
        raise ValueError("URLs are not fetched; send the picture itself, in base64.")
    try:
        # The command `base64` wraps its lines, so white space is removed before the strict decoder reads the text.
        return binascii.a2b_base64(text.encode("ascii").translate(None, _WHITE_SPACE), strict_mode=True)
    except ValueError as error:  # binascii.Error, or a character that is not ASCII
        raise ValueError("Not base64.") from error


def images_from_pictures(
    pictures: Sequence[bytes | str],
    shape: tuple[int, ...],
    *,
    preprocess: Preprocess,
    background: int,
    max_pixels: int,
    box: float = MNIST_BOX,
    found: list[Found | None] | None = None,
    hold: Hold = hold_nothing,
) -> Images:
    """Decode picture files (one of `FORMATS`; the first frame of an animation) to uint8 [N, *shape].

    A `str` is a file in base64. `box` is that of `preprocess.Target`. Where the digit of each picture is, or None, is
    added to the list `found`. Raises InvalidInput with one fault for each file that is not a picture or does not fit.
    Raises LimitExceeded, before any pixel is decoded, when the headers together declare more than `max_pixels`. Memory
    is reserved with `hold` before each step that takes it, and this raises what `hold` raises.
    """
    faults: list[Fault] = []

    def file_of(picture: bytes | str) -> bytes:
        if isinstance(picture, bytes):
            return picture
        with held(hold, base64_cost(picture)):
            file = base64_bytes(picture)
        hold(len(file))
        return file

    target = Target(shape, background, box)
    pixels = 0

    def opened(file: bytes) -> _Opened:
        nonlocal pixels
        with held(hold, open_cost(file)):
            picture = _open(file)
        pixels += picture.width * picture.height
        if pixels > max_pixels:
            raise LimitExceeded(
                f"The pictures have at least {pixels} pixels in all; at most {max_pixels} are allowed in one request.",
                ("images",),
            )
        return _Opened(file, picture if _is_light(picture) else None)

    def fitted(waiting: _Opened) -> Fitted:
        with held(hold, open_cost(waiting.file)):
            picture, waiting.picture = waiting.picture or _open(waiting.file), None
            whole = picture.width * picture.height
            reduced = draft(picture, target, preprocess)
            with held(hold, decode_cost(picture, whole, target, preprocess)):
                return fit(picture, target, preprocess, reduced)

    files = _each(enumerate(pictures), file_of, faults)
    waiting = _each(files, opened, faults)
    return _stack(_each(waiting, fitted, faults), faults, found)


def images_from_small_pngs(
    pictures: Sequence[bytes | str], shape: tuple[int, ...], *, max_pixels: int
) -> Images | None:
    """A faster `images_from_pictures` for 8-bit grey PNGs of the model's size that contain only pixels.

    Returns None if any file is something else, or damaged. Then `images_from_pictures` reads them or says what is
    wrong.
    """
    pixels = math.prod(shape)
    if len(shape) != 2 or len(pictures) * pixels > max_pixels:
        return None
    longest = 2 * pixels + 1024  # of a file that is one, in base64 too
    start = _png_start(shape)
    images = []
    for picture in pictures:
        if len(picture) > longest:
            return None
        try:
            file = b64decode(picture, validate=True) if isinstance(picture, str) else picture
            # IHDR, one IDAT and IEND: no chunk that could rotate, colour or animate the picture.
            if file[:41] != b"%b%bIDAT" % (start, (len(file) - 57).to_bytes(4, "big")):
                return None
            if file[-16:] != crc32(file[37:-16]).to_bytes(4, "big") + _IEND:  # libspng does not check it
                return None
            images.append(spng_decode_image_bytes(file, SPNG_FMT_G8))
        except (ValueError, OverflowError, RuntimeError):
            return None
    together = images[0] if len(images) == 1 else np.concatenate(images)
    return together.reshape(len(images), *shape)


@lru_cache(maxsize=64)
def _png_start(shape: tuple[int, ...]) -> bytes:
    """The first 33 bytes of every PNG of this shape: the signature and the IHDR chunk."""
    height, width, *channels = shape
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2 if channels else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", crc32(header))


def images_from_npy(
    data: bytes,
    shape: tuple[int, ...],
    *,
    preprocess: Preprocess,
    background: int,
    max_batch: int,
    max_pixels: int,
    box: float = MNIST_BOX,
    found: list[Found | None] | None = None,
    hold: Hold = hold_nothing,
) -> Images:
    """Convert a batch in NumPy's format (version 1.0 or 2.0), uint8 [N, h, w] or [N, h, w, 3], to uint8 [N, *shape].

    The header is parsed, never evaluated. It is compared with the number of bytes that follow, before memory is
    allocated. Raises InvalidInput and LimitExceeded. `box`, `found` and `hold` are those of `images_from_pictures`.
    """
    array = parse_npy(data)
    check_batch(len(array), max_batch, "images")
    if array.shape[1:] == shape:
        return array
    if preprocess == "none":
        raise InvalidInput([Fault(("images",), f"The images are {size(array.shape[1:])}, not {size(shape)}.")])
    if math.prod(array.shape[:3]) > max_pixels:
        raise LimitExceeded(f"The images have more than {max_pixels} pixels in all.", ("images",))
    faults: list[Fault] = []

    target = Target(shape, background, box)

    def fitted(image: Images) -> Fitted:
        with held(hold, array_cost(image, target, preprocess)):
            return fit(Image.fromarray(image), target, preprocess)

    return _stack(_each(enumerate(array), fitted, faults), faults, found)


def check_batch(count: int, max_batch: int, *path: str | int) -> None:
    """Raise InvalidInput when a batch is empty, LimitExceeded when it has more than `max_batch` items.

    `path` leads to the batch, or to what says its size, from the root of the request.
    """
    if count == 0:
        raise InvalidInput([Fault(path, "At least one is needed.")])
    if count > max_batch:
        raise LimitExceeded(f"{count} items in one request; at most {max_batch} are allowed.", path)


def npy_bytes(array: npt.NDArray[np.generic]) -> bytes:
    """The array as a file in NumPy's format (version 1.0), for `numpy.load`."""
    return _npy_start(array.dtype.str, array.shape) + array.tobytes()


@lru_cache(maxsize=256)
def _npy_start(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The header of such a file, for an array in C order."""
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def png_files(images: Images) -> list[bytes]:
    """Encode each image of uint8 [N, H, W] or [N, H, W, 3] as a PNG (W3C Portable Network Graphics, third edition)."""
    count, height, width = images.shape[:3]
    if height * width > _SMALL_PNG_PIXELS:
        return [_large_png(image) for image in images]
    start = _png_start(images.shape[1:])
    row_bytes = math.prod(images.shape[2:])
    rows = np.zeros((count, height, 1 + row_bytes), np.uint8)  # each row begins with its filter's number; 0 is none
    rows[:, :, 1:] = images.reshape(count, height, row_bytes)
    return [_small_png(start, picture) for picture in rows]


def grid(images: Images, background: int, columns: int | None = None) -> Images:
    """Place images, uint8 [N, H, W] or [N, H, W, 3], in one picture, row by row: by default in ceil(sqrt(N)) columns.

    Image k is at row k // columns and column k % columns, without gaps. Empty cells have the grey level `background`.
    """
    count, height, width, *channels = images.shape
    columns = columns or math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, *channels), background, np.uint8)
    cells[:count] = images
    return (
        cells.reshape(rows, columns, height, width, *channels)
        .swapaxes(1, 2)
        .reshape(rows * height, columns * width, *channels)
    )


def _each(
    items: Iterable[tuple[int, Input]], function: Callable[[Input], Output], faults: list[Fault]
) -> list[tuple[int, Output]]:
    """Apply `function` to numbered items. An item for which it raises ValueError becomes a fault and is left out."""
    outputs = []
    for index, item in items:
        try:
            outputs.append((index, function(item)))
        except ValueError as error:
            faults.append(Fault(("images", index), str(error)))
    return outputs


def _stack(fitted: list[tuple[int, Fitted]], faults: list[Fault], found: list[Found | None] | None) -> Images:
    if faults:
        raise InvalidInput(sorted(faults, key=lambda fault: fault.path))
    if found is not None:
        found.extend(one.found for _, one in fitted)
    return np.stack([one.image for _, one in fitted])


def _small_png(start: bytes, rows: Images) -> bytes:
    data = b"IDAT" + compress(rows, 1)
    return start + (len(data) - 4).to_bytes(4, "big") + data + crc32(data).to_bytes(4, "big") + _IEND


def _large_png(image: Images) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@dataclass(slots=True)
class _Opened:
    """A picture file whose header has been read; `picture` is None when the file has to be opened again."""

    file: bytes
    picture: Image.Image | None


class _WebP(WebPImagePlugin.WebPImageFile):
    """A WebP picture that lets go of libwebp's two canvases before Pillow makes its own."""

    def load_prepare(self) -> None:
        """Only the first frame is read, and by now it is decoded."""
        self._decoder = None
        super().load_prepare()


def _is_light(picture: Image.Image) -> bool:
    """Whether an opened picture holds little. A PNG of a few kB may have unpacked a MB of texts, a TIFF has a list."""
    return (
        picture.format != "TIFF"
        and sum(len(value) for value in picture.info.values() if isinstance(value, bytes | str)) <= _LIGHT_BYTES
    )


def _open(data: bytes) -> Image.Image:
    check_blocks(data)
    tiff = plain_tiff(data) if is_tiff(data) else None
    try:
        picture: Image.Image
        if tiff is not None:
            picture = TiffImagePlugin.TiffImageFile(io.BytesIO(tiff))
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            picture = _WebP(io.BytesIO(data))
        else:
            picture = Image.open(io.BytesIO(data), formats=_BY_PILLOW)
    except Exception as error:  # Pillow's parsers raise many kinds of exceptions for invalid bytes
        raise UnusablePicture(f"Not a picture that can be read ({', '.join(FORMATS)}).") from error
    if picture.format == "BMP" and picture.info["compression"] in (1, 2):  # Pillow decodes them slowly, in Python
        raise UnusablePicture("BMP files with run-length encoding are not read.")
    return picture


def parse_npy(data: bytes) -> Images:
    """The array in a file of NumPy's format, uint8 [N, h, w] or [N, h, w, 3], without a copy.

    Raises InvalidInput when it is anything else, or when the header does not match the number of bytes that follow.
    """
    return _npy_array(data, "images", np.uint8, "uint8 [N, h, w] or [N, h, w, 3]")


def parse_latents(data: bytes) -> npt.NDArray[np.float32]:
    """The array in a file of NumPy's format, float32 [N, L], without a copy. Raises InvalidInput as `parse_npy`."""
    return _npy_array(data, "z", np.float32, "float32 [N, latent_dim]")


def _npy_array(data: bytes, name: str, wanted: type[Number], form: str) -> npt.NDArray[Number]:
    """The array in a file of NumPy's format. `name` is what faults point at, `form` what else it should have been."""
    try:
        length = 10 if data[6] == 1 else 12  # of the part before the text of the header; it depends on the version
        end = length + int.from_bytes(data[8:length], "little")
        shape, column_major, dtype = _npy_header(data[:end])
    except Exception as error:  # the header is a Python literal, and its parser raises many kinds of exceptions
        raise InvalidInput([Fault((name,), "Not an array in NumPy's format, version 1.0 or 2.0.")]) from error
    fits = len(shape) == 2 if wanted is np.float32 else len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if dtype != wanted or not fits:
        raise InvalidInput([Fault((name,), f"The array is {dtype} {list(shape)}, not {form}.")])
    if math.prod(shape) * dtype.itemsize != len(data) - end or min(shape[1:]) < 1:
        raise InvalidInput([Fault((name,), f"{len(data) - end} bytes do not fill an array of {list(shape)}.")])
    return np.frombuffer(data, wanted, offset=end).reshape(shape, order="F" if column_major else "C")


@lru_cache(maxsize=256)  # clients send few different shapes; parsing one takes as long as a few digits
def _npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, column_major, dtype = read(stream)
    np.broadcast_to(np.uint8(0), shape)  # allocates nothing; raises ValueError for a shape that is too large for NumPy
    return shape, column_major, dtype
