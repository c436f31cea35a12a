"""What the command line is given: files, folders, patterns, arrays and standard input."""

from __future__ import annotations

import glob
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vae_client.cli.parquet import read_parquet
from vae_client.pictures import Picture
from vae_client.results import Floats

# The files of a folder that are pictures, by their names.
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# How picture files begin, and NumPy's. What begins otherwise on standard input is a list of paths.
_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_NPY: Final = b"\x93NUMPY"

STDIN: Final = "-"

# What makes a pattern of a name.
_MAGIC: Final = frozenset("*?[")


class Unusable(Exception):
    """An input of the command line cannot be used. `str(error)` is one sentence."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture, and what the output calls it."""

    name: str
    picture: Picture


def pictures_of(arguments: Sequence[str]) -> list[Item]:
    """Every picture that the arguments name, in order; those of a folder or a pattern sorted by name.

    Raises Unusable for a folder or a pattern without pictures, and for an array that cannot be read. Files are not
    opened, and not missed, before they are sent.
    """
    items = [item for argument in arguments for item in _expanded(argument)]
    if not items:
        raise Unusable("There is no picture: name files, folders or patterns, or - for standard input.")
    return items


def latents_of(argument: str) -> Floats:
    """Latents, float32 [N, latent_dim], of a file that `vae encode` wrote: its z if it has one, else its mu.

    Raises Unusable.
    """
    try:
        data = _standard_input() if argument == STDIN else Path(argument).read_bytes()
        latents = np.asarray(_latents(data), np.float32)
    except Unusable:
        raise
    except Exception as error:  # parsers of files raise many kinds of exceptions
        raise Unusable(f"{argument}: no latents can be read ({_sentence(error)}).") from error
    if latents.ndim not in (1, 2) or not latents.size:
        raise Unusable(f"{argument}: latents are [N, latent_dim]; these are {list(latents.shape)}.")
    return np.atleast_2d(latents)


def _expanded(argument: str) -> Iterable[Item]:
    if argument == STDIN:
        return _of_standard_input(_standard_input())
    path = Path(argument)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not files:
            raise Unusable(f"{argument}: there is no picture in this folder ({', '.join(SUFFIXES)}).")
        return [Item(str(file), file) for file in files]
    if _MAGIC.intersection(argument) and not path.exists():
        names = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # the pattern may be absolute
        if not names:
            raise Unusable(f"{argument}: no file has such a name.")
        return [item for name in names for item in _expanded(name)]
    return _of_array(argument, path.read_bytes()) if path.suffix == ".npy" and path.exists() else [Item(argument, path)]


def _of_standard_input(data: bytes) -> list[Item]:
    if data.startswith(_NPY):
        return _of_array(STDIN, data)
    if data.startswith(_SIGNATURES):
        return [Item(STDIN, data)]
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Unusable("Standard input is neither a picture, nor an array, nor a list of paths.") from error
    return [item for line in lines if line.strip() for item in _expanded(line)]


def _of_array(name: str, data: bytes) -> list[Item]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # the parser raises many kinds of exceptions
        raise Unusable(f"{name}: not an array in NumPy's format ({_sentence(error)}).") from error
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise Unusable(f"{name}: an array of pictures is uint8 [N, h, w] or [N, h, w, 3]; this one is {_form(array)}.")
    return [Item(f"{name}[{index}]", picture) for index, picture in enumerate(array)]


def _latents(data: bytes) -> Any:
    if data.startswith(_NPY):
        return np.load(io.BytesIO(data), allow_pickle=False)
    if data.startswith(b"PK"):
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return arrays["z" if "z" in arrays else "mu"]
    if data.startswith(b"PAR1"):
        columns = read_parquet(data)
        return columns["z" if "z" in columns else "mu"]
    rows = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    return [row["z"] if "z" in row else row["mu"] for row in rows]


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        raise Unusable("Standard input is a terminal; nothing can be read from it.")
    return sys.stdin.buffer.read()


def _form(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _sentence(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
