"""Files of a bundle, read within bounds, whatever somebody has put in their place."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# The text of a contract, most of which is the recipe and the hashes: a few kilobytes.
MAX_CONTRACT_BYTES: Final = 1024 * 1024

# All files of a bundle, and the arrays in one of them. ONNX graphs are read into memory, and protobuf has no message of
# more than 2 GiB.
MAX_BUNDLE_BYTES: Final = 2 * 1024**3


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file. No other kind is opened: a pipe has no end, and opening a device has effects.

    Raises OSError, and ValueError if it is none or has more than `most` bytes.
    """
    _check_regular(path.stat())
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        _check_regular(found)  # by now it may be another file
        if found.st_size > most:
            raise ValueError(f"has {found.st_size} bytes, and {most} are the most")
        return file.read(found.st_size)


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is not a regular file")


def read_arrays(data: bytes, names: Iterable[str]) -> list[npt.NDArray[Any]]:
    """These arrays of an .npz file. Nothing is unpickled. Raises ValueError, and MemoryError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            if sum(member.file_size for member in file.infolist()) > MAX_BUNDLE_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = [file[name] for name in names]
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy have many for what is no such file
        raise ValueError("no arrays") from error
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise ValueError("no arrays")
    return arrays
