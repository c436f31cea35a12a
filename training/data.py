"""Data sets, read whole into memory: MNIST and its like, and folders of pictures.

    images, labels = load("mnist", "train", Path("DIR"))         # uint8 [60000, 28, 28], uint8 [60000]
    images, labels = load("folder:birds", "train", Path("DIR"))  # the pictures under DIR/birds, uint8 [N, H, W(, 3)]

MNIST and Fashion-MNIST are IDX files, trusted only after their SHA-256 agrees. Without a directory they are downloaded
from public mirrors into the user's cache. Hashes are of the uncompressed bytes, so gzipped and plain files, from any
mirror, are the same to us.

A folder's pictures have one size; they count as grey when every one of them is. Its sub-folders, in the order of their
names, are the labels 0, 1, 2, ...; a folder without any has the one label 0. Every tenth picture of a label is of the
test part.
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
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.errors import DataError

Part = Literal["train", "test"]

FOLDER: Final = "folder:"
PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
TEST_SHARE: Final = 10  # every so manieth picture of a folder is for testing


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: its image and label file for each part, with hashes, and where they can be had.

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


def load(name: str, part: Part, directory: Path | None = None) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, *image_shape], and labels, uint8 [N], of one part of a data set.

    Raises DataError, in one sentence, for an unknown data set and for files that are missing, damaged or unreachable.
    """
    if name.startswith(FOLDER):
        return _read_folder((directory or Path()) / name.removeprefix(FOLDER), part)
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


@dataclass(frozen=True, slots=True)
class Sets:
    """Both parts of a data set: images uint8 [N, *image_shape] with labels uint8 [N]."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_both(name: str, directory: Path | None = None) -> Sets:
    """Both parts of a data set; raises DataError as `load` does."""
    return Sets(*load(name, "train", directory), *load(name, "test", directory))


def title(name: str) -> str:
    """What a data set is called in prose: its own name, or its folder's."""
    return name.removeprefix(FOLDER) if name.startswith(FOLDER) else DATASETS[name].title


def published(name: str) -> str:
    """A data set's name without the place where somebody keeps it: of a folder, only the last part of its path."""
    return f"{FOLDER}{Path(name.removeprefix(FOLDER)).name}" if name.startswith(FOLDER) else name


def background(name: str, images: Tensor) -> int:
    """The grey level of empty paper, 0 to 255: of a folder, the median of its pictures' edges."""
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
    """Indices, int64 [count], of the first image of each label in order, then the second of each, and so on."""
    by_label = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    rounds = [indices[turn] for turn in range(max(map(len, by_label))) for indices in by_label if turn < len(indices)]
    return torch.stack(rounds[:count])


def _read_folder(folder: Path, part: Part) -> tuple[Tensor, Tensor]:
    """Every picture of one part of a folder, label by label, in the order of their names."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inside) > 256:
        raise DataError(f"{folder} has {len(inside)} folders; there are at most 256 labels.")
    pictures: list[Image.Image] = []
    labels: list[int] = []
    wanted: list[bool] = []
    for label, place in enumerate(inside or [folder]):
        paths = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
        pictures += [_read_picture(path) for path in paths]
        labels += [label] * len(paths)
        wanted += [(index % TEST_SHARE == 0) == (part == "test") for index in range(len(paths))]
    if not any(wanted):
        raise DataError(f"{folder} has too few pictures ({', '.join(sorted(PICTURES))}) for a {part} part.")
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
        raise DataError(f"The pictures under {folder} have several sizes ({found}, ...); they must have one.")
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    images = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])[wanted]
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.uint8)[torch.tensor(wanted)]


def _read_picture(path: Path) -> Image.Image:
    """A picture in mode L, where all its pixels are grey, or RGB; what is transparent shows black."""
    try:
        with Image.open(path) as picture:
            if picture.has_transparency_data:
                flat = Image.new("RGBA", picture.size, (0, 0, 0, 255))
                flat.alpha_composite(picture.convert("RGBA"))
                colour = flat.convert("RGB")
            else:
                colour = picture.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is not a picture that can be read.") from error
    levels = np.asarray(colour)
    grey = (levels == levels[:, :, :1]).all()
    return Image.fromarray(levels[:, :, 0]) if grey else colour


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
