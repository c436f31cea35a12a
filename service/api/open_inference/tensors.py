"""Tensors of the protocol: from JSON or bytes to NumPy, and back.

Bytes are in C order, little-endian, without padding. An element of BYTES is its length, uint32, and then its bytes; in
JSON, where the protocol has text, it is base64.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from service.errors import Fault, InvalidInput

Datatype = Literal["UINT8", "INT64", "FP32", "BYTES"]
Array = npt.NDArray[Any]
Path = tuple[str | int, ...]

# The elements of an input: numbers, or of BYTES each file, as bytes or as base64 text.
Elements = Array | Sequence[bytes | str]

_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of a model. A side of -1 may have any length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """The bytes of what one step along the first side has; 0 for BYTES, where they differ."""
        return 0 if self.datatype == "BYTES" else _DTYPES[self.datatype].itemsize * math.prod(self.shape[1:])

    @property
    def is_copied(self) -> bool:
        """Whether its elements are copied out of a body: those of BYTES, and numbers whose address may be odd."""
        return self.datatype != "UINT8"

    def document(self) -> dict[str, object]:
        """The tensor in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def itemsize(datatype: Datatype) -> int:
    """The bytes of one number."""
    return _DTYPES[datatype].itemsize


def check_shape(tensor: Tensor, datatype: str, shape: Sequence[int], path: Path) -> None:
    """Raise InvalidInput unless a request's datatype and shape are those that the tensor takes."""
    if datatype != tensor.datatype:
        raise _fault(path, f"{tensor.name} is {tensor.datatype}, not {datatype[:80]!r}.", "datatype")
    fits = len(shape) == len(tensor.shape) and all(
        side >= 0 if allowed < 0 else side == allowed for side, allowed in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise _fault(path, f"{tensor.name} has the shape {list(tensor.shape)}, -1 being any number.", "shape")


def from_bytes(tensor: Tensor, shape: Sequence[int], data: memoryview, path: Path) -> Elements:
    """The elements in bytes. Numbers are not copied, unless their address is odd. Raises InvalidInput."""
    if tensor.datatype == "BYTES":
        return _split(shape[0], data, path)
    expected = math.prod(shape) * _DTYPES[tensor.datatype].itemsize
    if len(data) != expected:
        raise _fault(path, f"{len(data)} bytes do not fill {list(shape)} of {tensor.datatype}, which takes {expected}.")
    array = np.frombuffer(data, _DTYPES[tensor.datatype]).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_json(tensor: Tensor, shape: Sequence[int], data: list[Any], path: Path) -> Elements:
    """The elements in a list, flat or nested; as in Triton, only their order counts. Raises InvalidInput."""
    count = math.prod(shape)
    try:
        for _ in shape[1:]:
            if data and isinstance(data[0], list):
                data = list(islice(chain.from_iterable(data), count + 1))  # memory is reserved for no more
    except TypeError as error:
        raise _fault(path, "Lists and other values side by side.", "data") from error
    if len(data) > count:
        raise _fault(path, f"More values than the shape {list(shape)} has.", "data")
    if len(data) < count:
        raise _fault(path, f"{len(data)} values do not fill the shape {list(shape)}.", "data")
    types = set(map(type, data))
    if tensor.datatype == "BYTES":
        if not types <= {str}:
            raise _fault(path, "Not all values are strings: files in base64.", "data")
        return data
    if not types <= ({int, float} if tensor.datatype == "FP32" else {int}):
        numbers = "numbers" if tensor.datatype == "FP32" else "integers"
        raise _fault(path, f"Not all values are {numbers}.", "data")
    try:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, which models refuse
            return np.fromiter(data, _DTYPES[tensor.datatype], count).reshape(shape)  # twice as fast as np.array
    except OverflowError as error:
        raise _fault(path, f"Not all values are in the range of {tensor.datatype}.", "data") from error


def _split(count: int, data: memoryview, path: Path) -> list[bytes]:
    """The elements of BYTES. Raises InvalidInput unless there are exactly `count`."""
    elements, at = list[bytes](), 0
    while at < len(data) and len(elements) < count:
        if at + _LENGTH.size > len(data):
            break
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            break
        elements.append(bytes(data[at + _LENGTH.size : end]))
        at = end
    if at != len(data) or len(elements) != count:
        raise _fault(path, f"{len(data)} bytes are not {count} elements, each with its length before it.")
    return elements


def _fault(path: Path, reason: str, *field: str) -> InvalidInput:
    return InvalidInput([Fault((*path, *field), reason)])
