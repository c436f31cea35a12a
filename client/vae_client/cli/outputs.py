"""What the command line writes: tables of latents or scores, and pictures."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from vae_client.cli.parquet import parquet_bytes
from vae_client.pictures import Pixels, grid, npy_bytes, png_bytes

TABLES: Final = (".jsonl", ".npy", ".npz", ".parquet")
PICTURES: Final = (".png", ".npy")
STDOUT: Final = "-"


def write_table(output: str, columns: Mapping[str, Any], main: str | Sequence[str]) -> None:
    """Write columns, a list or an array of N rows each, in the format of the file's suffix.

    `.npy` has one array: the column `main`, or several side by side, float32 [N, len(main)]. Raises OSError, NoParquet.
    """
    suffix = PurePath(output).suffix
    if suffix == ".npy":
        array = columns[main] if isinstance(main, str) else np.stack([columns[name] for name in main], 1)
        write(output, npy_bytes(array))
    elif suffix == ".npz":
        stream = io.BytesIO()
        named = {"files" if name == "file" else name: np.asarray(values) for name, values in columns.items()}
        np.savez(stream, allow_pickle=False, **named)  # which has a parameter `file`
        write(output, stream.getvalue())
    elif suffix == ".parquet":
        write(output, parquet_bytes(columns))
    else:
        rows = zip(*(_json_values(values) for values in columns.values()), strict=True)
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
        write(output, "".join(lines).encode())


def write_pictures(output: str, images: Pixels, names: Sequence[str] = (), columns: int | None = None) -> None:
    """Write images: a grid of so many columns, an array, or a folder with a PNG of each, by these names.

    Raises OSError.
    """
    if is_folder(output):
        flat = images.reshape(-1, *images.shape[-3 if images.shape[-1] == 3 else -2 :])
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in zip(_file_names(names or [f"{index:05}" for index in range(len(flat))]), flat, strict=True):
            (folder / name).write_bytes(png_bytes(Image.fromarray(image)))
    elif PurePath(output).suffix == ".npy":
        write(output, npy_bytes(images))
    else:
        write(output, png_bytes(grid(images, columns)))


def is_folder(output: str) -> bool:
    """Whether an output names a folder: one that is there, or with a slash at its end."""
    return output.endswith("/") or Path(output).is_dir()


def write(output: str, data: bytes) -> None:
    """Write a file, or to standard output. Raises OSError."""
    if output == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        Path(output).write_bytes(data)


def _file_names(names: Sequence[str]) -> list[str]:
    """The names of PNG files for pictures: as those of the pictures, and with a number where two are the same."""
    taken = dict[str, int]()
    files = []
    for name in names:
        stem = PurePath(name.replace(".npy[", "[")).stem  # digits.npy[3] becomes digits[3].png
        file = stem
        while file in taken:
            taken[stem] += 1
            file = f"{stem}-{taken[stem]}"
        taken[file] = 1
        files.append(f"{file}.png")
    return files


def _json_values(values: Any) -> Sequence[Any]:
    """Values for JSON; each float32 with as few digits as make it the same again."""
    if isinstance(values, np.ndarray):
        return [_short(row) for row in values]
    return list(values)


def _short(row: npt.NDArray[np.float32] | np.float32) -> float | list[float]:
    return float(str(row)) if isinstance(row, np.floating) else [float(str(value)) for value in row]
