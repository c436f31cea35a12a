"""Data sets, read whole into memory: MNIST and Fashion-MNIST, and folders of pictures.

    load_both("mnist", Path("DIR"))         # uint8 [60000, 28, 28] to train, [10000, 28, 28] to test, with labels
    load_both("folder:birds", Path("DIR"))  # the pictures under DIR/birds, uint8 [N, H, W] or [N, H, W, 3]

MNIST and Fashion-MNIST are IDX files. They are used only when their SHA-256 is the known one. Without a directory they
are downloaded from public mirrors into the user's cache. The hashes are those of the uncompressed bytes, so files may
be gzipped or not, and may come from any mirror. Folders of pictures are in `training.folder`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pooch  # type: ignore[import-untyped]
import requests
import torch
from torch import Tensor

from training import folder
from training.errors import DataError
from training.steps import SILENT, Steps

Part = Literal["train", "test"]

FOLDER: Final = "folder:"
# Images that only validate are at most one in so many of the training part.
LEAST_PER_VALIDATION_IMAGE: Final = 5


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: the image and label file of each part, their hashes, and the addresses to download them from.

    `background` is the grey level of empty paper, 0 to 255.
    """

    title: str
    background: int
    files: dict[Part, tuple[str, str]]
    sha256: dict[str, str]
    mirrors: tuple[str, ...]


_MNIST_FILES: Final[dict[Part, tuple[str, str]]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

DATASETS: Final = {
    "mnist": Dataset(
        title="MNIST",
        background=0,
        files=_MNIST_FILES,
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
    "fashion-mnist": Dataset(
        title="Fashion-MNIST",
        background=0,
        files=_MNIST_FILES,
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Sets:
    """Both parts of a data set: images uint8 [N, *image_shape] with labels uint8 [N].

    `label_names` has a name for each label 0, 1, 2, ..., or nothing where the labels have no names.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    label_names: tuple[str, ...] = ()

    def first_of_test(self, count: int) -> Sets:
        """The same with at most so many test images, the first ones."""
        return replace(self, test_images=self.test_images[:count], test_labels=self.test_labels[:count])


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a command the option --data-dir, the directory that `load_both` reads."""
    parser.add_argument(
        "--data-dir", type=Path, help="directory of the data set's files; without it they are downloaded"
    )


def load_both(name: str, directory: Path | None = None, steps: Steps = SILENT) -> Sets:
    """Both parts of a data set.

    Raises DataError, in one sentence, for an unknown data set and for files that are missing, damaged or cannot be
    downloaded.
    """
    if not name.startswith(FOLDER):
        return Sets(*load(name, "train", directory), *load(name, "test", directory))
    place = (directory or Path()) / name.removeprefix(FOLDER)
    pictures = folder.read(place, steps)
    train, test = folder.split(pictures.labels)
    if not len(train) or not len(test):
        raise DataError(f"{place} has too few pictures ({len(pictures.labels)}) to train and to test.")
    images, labels = pictures.images, pictures.labels
    return Sets(images[train], labels[train], images[test], labels[test], pictures.names)


def load(name: str, part: Part, directory: Path | None = None) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, *image_shape], and labels, uint8 [N], of one part of a data set; raises as `load_both` does."""
    if name.startswith(FOLDER):
        sets = load_both(name, directory)
        return (sets.train_images, sets.train_labels) if part == "train" else (sets.test_images, sets.test_labels)
    if name not in DATASETS:
        raise DataError(f"There is no data set {name!r}; known are: {', '.join(sorted(DATASETS))}, {FOLDER}PATH.")
    dataset = DATASETS[name]
    images, labels = (
        _read_idx(_find(dataset, directory, file), dataset.sha256[file])
        if directory
        else _download(name, dataset, file)
        for file in dataset.files[part]
    )
    return images, labels


def validation_size(wanted: int, images: int) -> int:
    """How many of the training part's images validate: as many as wanted, but at most a fifth, and at least one."""
    return max(1, min(wanted, images // LEAST_PER_VALIDATION_IMAGE))


def title(name: str) -> str:
    """The name of a data set in a text: its own, or that of its folder."""
    return name.removeprefix(FOLDER) if name.startswith(FOLDER) else DATASETS[name].title


def published(name: str) -> str:
    """The name of a data set for others to read. Of a folder it has only the last part of the path."""
    return f"{FOLDER}{Path(name.removeprefix(FOLDER)).name}" if name.startswith(FOLDER) else name


def background(name: str, images: Tensor) -> int:
    """The grey level of empty paper, 0 to 255. For a folder it is the median of its pictures' edges."""
    if not name.startswith(FOLDER):
        return DATASETS[name].background
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return int(torch.cat([edge.flatten() for edge in edges]).median())


def split(images: Tensor, validation_size: int) -> tuple[Tensor, Tensor]:
    """The first images for training and the last `validation_size` for validation, as views.

    Raises DataError when that leaves nothing to train on.
    """
    training_size = len(images) - validation_size
    if training_size < 1:
        raise DataError(f"A validation set of {validation_size} leaves nothing of {len(images)} images to train on.")
    return images[:training_size], images[training_size:]


def some_of_each_label(labels: Tensor, count: int) -> Tensor:
    """Indices, int64 [count]: the first image of each label in order, then the second of each, and so on."""
    by_label = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    rounds = [indices[turn] for turn in range(max(map(len, by_label))) for indices in by_label if turn < len(indices)]
    return torch.stack(rounds[:count])


def _find(dataset: Dataset, directory: Path, file: str) -> Path:
    for path in (directory / file, directory / f"{file}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{directory} has neither {file} nor {file}.gz, which {dataset.title} needs.")


def _download(name: str, dataset: Dataset, file: str) -> Tensor:
    """The array of a file in the user's cache. The first mirror that has the right bytes fills it."""
    cache = Path(pooch.os_cache("vae-service")) / name
    path = cache / f"{file}.gz"
    reason = "no mirror is known"
    pooch.get_logger().setLevel("WARNING")  # it asks for a hash, and ours is that of the uncompressed bytes
    for mirror in (None, *dataset.mirrors):  # None: a file that an earlier call left in the cache
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
