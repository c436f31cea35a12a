"""Pictures as people have them, and as they are sent."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]

NPY: Final = "application/x-npy"

# One picture: a path, the bytes of a picture file, a Pillow image, or an array, uint8 [h, w] or [h, w, 3].
Picture = str | os.PathLike[str] | bytes | Image.Image | Pixels

# One or several. An array of several is uint8 [N, h, w] or [N, h, w, 3]. With three axes the last one decides: if it is
# 3, the array is one picture in colour.
Pictures = Picture | Iterable[Picture]

# The modes of Pillow that a PNG keeps, or that become one of those without loss.
_PNG_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class BadRows(Exception):
    """Some pictures of a batch cannot be read here. `reasons` has the error of each, by its index in the call."""

    def __init__(self, reasons: dict[int, Exception]) -> None:
        self.reasons = reasons
        super().__init__(f"{len(reasons)} pictures cannot be read.")


class Batch(Protocol):
    """The pictures of one call. None of them is opened before it is sent."""

    def __len__(self) -> int: ...

    def size(self, row: int, /) -> int:
        """About how many bytes one of them takes in a request."""

    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        """Some of them as a request's body, in arguments of httpx. Raises BadRows."""


@dataclass(frozen=True, slots=True)
class ArrayBatch:
    """An array: uint8 [N, h, w] or [N, h, w, 3]."""

    array: Pixels

    def __len__(self) -> int:
        return len(self.array)

    def size(self, _: int) -> int:
        """The bytes of its pixels."""
        return math.prod(self.array.shape[1:])

    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        """An array in NumPy's format."""
        return npy_body(self.array[list(rows)])


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Pictures that are sent as files."""

    pictures: Sequence[Picture]

    def __len__(self) -> int:
        return len(self.pictures)

    def size(self, row: int) -> int:
        """The size of the file, or an estimate. 0 for a file that cannot be read."""
        picture = self.pictures[row]
        if isinstance(picture, bytes):
            return len(picture)
        if isinstance(picture, np.ndarray):
            return picture.size
        if isinstance(picture, Image.Image):
            return picture.width * picture.height * len(picture.getbands())
        try:
            return os.stat(picture).st_size  # noqa: PTH116
        except OSError:
            return 0

    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        """A form with one file for each picture."""
        files, reasons = [], dict[int, Exception]()
        for row in rows:
            try:
                data = _file_of(self.pictures[row])
            except (OSError, ValueError) as error:
                reasons[row] = error
            else:
                files.append(("images", ("picture", data, "application/octet-stream")))
        if reasons:
            raise BadRows(reasons)
        return {"files": files}


def batch_of(pictures: Pictures) -> Batch:
    """The pictures of a call. Raises ValueError when there is none, or for an array that is no picture.

    Arrays of equal shapes go as one array, everything else as files.
    """
    if isinstance(pictures, np.ndarray):
        array = _checked(pictures)
        several = array.ndim == 4 or (array.ndim == 3 and array.shape[2] != 3)
        found: Batch = ArrayBatch(array if several else array[np.newaxis])
    elif isinstance(pictures, str | os.PathLike | bytes | Image.Image):
        found = FileBatch([pictures])
    else:
        items = list(pictures)
        for item in items:
            if isinstance(item, np.ndarray):
                _checked(item)
                if item.ndim != 2 and not (item.ndim == 3 and item.shape[2] == 3):
                    raise ValueError(f"Each array in a list is one picture; this one is {list(item.shape)}.")
            elif not isinstance(item, str | os.PathLike | bytes | Image.Image):
                raise ValueError(f"Not a picture: {type(item).__name__}. Give paths, bytes, Pillow images or arrays.")
        arrays = [item for item in items if isinstance(item, np.ndarray)]
        alike = len(arrays) == len(items) and len({array.shape for array in arrays}) == 1
        found = ArrayBatch(np.stack(arrays)) if alike else FileBatch(items)
    if not len(found):
        raise ValueError("At least one picture is needed.")
    return found


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array in NumPy's format."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def npy_body(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array in NumPy's format as a request's body, in arguments of httpx."""
    return {"content": npy_bytes(array), "headers": {"content-type": NPY}}


def png_bytes(image: Image.Image) -> bytes:
    """A Pillow image as a PNG, turned as its EXIF orientation says."""
    turned = ImageOps.exif_transpose(image)
    stream = io.BytesIO()
    (turned if turned.mode in _PNG_MODES else turned.convert("RGB")).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def pixels_of(data: bytes) -> Pixels:
    """The pixels of a PNG: uint8 [h, w] or [h, w, 3]."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def grid(images: Pixels, columns: int | None = None, background: int = 0) -> Image.Image:
    """Images, uint8 [N, h, w] or [N, h, w, 3], as one picture, row by row, by default in ceil(sqrt(N)) columns.

    Axes before these are rows of their own: [R, C, h, w] has R rows of C images. Raises ValueError when there is none.
    """
    if not images.size:
        raise ValueError("A grid needs at least one image.")
    colour = images.shape[-1] == 3
    shape = images.shape[-3:] if colour else images.shape[-2:]
    if images.ndim - len(shape) > 1:
        columns = columns or images.shape[-len(shape) - 1]
    flat = images.reshape(-1, *shape)
    columns = columns or math.isqrt(len(flat) - 1) + 1
    rows = -(-len(flat) // columns)
    cells = np.full((rows * columns, *shape), background, np.uint8)
    cells[: len(flat)] = flat
    placed = cells.reshape(rows, columns, *shape).swapaxes(1, 2)
    return Image.fromarray(placed.reshape(rows * shape[0], columns * shape[1], *shape[2:]))


def _checked(array: npt.NDArray[Any]) -> Pixels:
    """The array, if it is one of pixels. Raises ValueError that says what to do."""
    if array.dtype != np.uint8:
        raise ValueError(
            f"Pixels are uint8, 0 to 255; this array is {array.dtype}. "
            "If its values are between 0 and 1: (255 * array).round().astype(np.uint8)."
        )
    if not (2 <= array.ndim <= 3 or (array.ndim == 4 and array.shape[3] == 3)):
        raise ValueError(f"An array of pictures is [h, w], [N, h, w] or [N, h, w, 3]; this one is {list(array.shape)}.")
    return array


def _file_of(picture: Picture) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray):
        return png_bytes(Image.fromarray(picture))
    if isinstance(picture, Image.Image):
        return png_bytes(picture)
    return Path(picture).read_bytes()
