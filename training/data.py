"""Data sets: IDX files, read whole into memory and trusted only after their SHA-256 agrees.

    images, labels = load("mnist", "train", Path("DIR"))      # uint8 [60000, 28, 28], uint8 [60000]

Without a directory the files are downloaded from public mirrors into the user's cache. Hashes are of the uncompressed
bytes, so gzipped and plain files, from any mirror, are the same to us.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pooch  # type: ignore[import-untyped]
import requests
import torch
from torch import Tensor

from training.errors import DataError

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: its image and label file for each part, with hashes, and where they can be had.

    `background` is the grey level of empty paper, 0 to 255.
    """

    title: str
    image_shape: tuple[int, ...]
    background: int
    files: dict[Part, tuple[str, str]]
    sha256: dict[str, str]
    mirrors: tuple[str, ...]


DATASETS: Final = {
    "mnist": Dataset(
        title="MNIST",
        image_shape=(28, 28),
        background=0,
        files={
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
}


def load(name: str, part: Part, directory: Path | None = None) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, *image_shape], and labels, uint8 [N], of one part of a data set.

    Raises DataError, in one sentence, for an unknown data set and for files that are missing, damaged or unreachable.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; known are: {', '.join(sorted(DATASETS))}.")
    dataset = DATASETS[name]
    images, labels = (
        _read_idx(_find(dataset, directory, file), dataset.sha256[file])
        if directory
        else _download(name, dataset, file)
        for file in dataset.files[part]
    )
    return images, labels


def split(images: Tensor, validation_size: int) -> tuple[Tensor, Tensor]:
    """The first images for training and the last `validation_size` for validation, as views.

    Raises DataError when that leaves nothing to train on.
    """
    training_size = len(images) - validation_size
    if training_size < 1:
        raise DataError(f"A validation set of {validation_size} leaves nothing of {len(images)} images to train on.")
    return images[:training_size], images[training_size:]


def some_of_each_label(labels: Tensor, count: int) -> Tensor:
    """Indices, int64 [count], of the first image of each label in order, then the second of each, and so on."""
    by_label = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    rounds = [indices[turn] for turn in range(max(map(len, by_label))) for indices in by_label if turn < len(indices)]
    return torch.stack(rounds[:count])


def _find(dataset: Dataset, directory: Path, file: str) -> Path:
    for path in (directory / file, directory / f"{file}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{directory} has neither {file} nor {file}.gz, which {dataset.title} needs.")


def _download(name: str, dataset: Dataset, file: str) -> Tensor:
    """The array of a file in the user's cache, where the first mirror that has the right bytes fills it."""
    cache = Path(pooch.os_cache("vae-service")) / name
    path = cache / f"{file}.gz"
    reason = "no mirror is known"
    pooch.get_logger().setLevel("WARNING")  # it would ask for a hash; ours is of the uncompressed bytes
    for mirror in (None, *dataset.mirrors):  # None: what an earlier call left there
        try:
            if mirror:
                print(f"Downloading {mirror}{path.name}", file=sys.stderr)
                pooch.retrieve(
                    mirror + path.name,
                    known_hash=None,
                    fname=path.name,
                    path=cache,
                    downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
                )
            if path.is_file():
                return _read_idx(path, dataset.sha256[file])
        except requests.RequestException as error:
            reason = f"{mirror} cannot be reached ({type(error).__name__})"
        except DataError as error:
            path.unlink()
            reason = str(error).rstrip(".")
        except OSError as error:
            reason = f"{cache} cannot be written ({error.strerror})"
    wanted = ", ".join(f"{file}.gz" for files in dataset.files.values() for file in files)
    raise DataError(
        f"{dataset.title} could not be downloaded: {reason}; put {wanted} (gzipped or not) into a directory DIR and "
        "say --data-dir DIR."
    )


def _read_idx(path: Path, sha256: str) -> Tensor:
    """The array of an IDX file of bytes: 0, 0, 8, the number of axes, the length of each as 4 bytes, the values."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path} is damaged or another file: its SHA-256, uncompressed, is {found} and not {sha256}.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return torch.from_numpy(values.copy())  # a copy that can be written to, as torch demands
