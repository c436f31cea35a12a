"""A folder of pictures as a data set.

The pictures have one size. They count as grey when every one of them is. The sub-folders, in the order of their names,
are the labels 0, 1, 2, ..., and their names are the labels' names. A folder without sub-folders has the one label 0,
without a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.errors import DataError
from training.steps import SILENT, Steps

PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
MOST_LABELS: Final = 256
TEST_SHARE: Final = 10  # one in ten pictures of each label is for testing
SPLIT_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of a folder: images uint8 [N, *image_shape], labels uint8 [N], and the names of the labels."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


def read(folder: Path, steps: Steps = SILENT) -> Pictures:
    """Every picture, label by label, in the order of the file names.

    Raises DataError, in one sentence, when the folder is missing, has no pictures, pictures of several sizes, a file
    that is not a picture, or more than 256 sub-folders, or one whose name cannot be printed.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inside) > MOST_LABELS:
        raise DataError(f"{folder} has {len(inside)} folders; there are at most {MOST_LABELS} labels.")
    for path in inside:
        if not path.name.isprintable():  # which names in no known encoding are not
            raise DataError(f"A folder in {folder} has the name {path.name!r}, which cannot be a label's name.")
    paths: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(inside or [folder]):
        found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
        if not found:
            raise DataError(f"{place} has no pictures ({', '.join(sorted(PICTURES))}).")
        paths += found
        labels += [label] * len(found)
    pictures = []
    with steps.step("reading pictures", len(paths)) as advance:
        for path in paths:
            pictures.append(_read_picture(path))
            advance(1)
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        some = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
        raise DataError(f"The pictures under {folder} have several sizes ({some}, ...); they must have one.")
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    images = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    return Pictures(
        torch.from_numpy(images), torch.tensor(labels, dtype=torch.uint8), tuple(path.name for path in inside)
    )


def split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the pictures to train and to test on, int64, for labels uint8 [N].

    Of each label one picture in ten, and at least one of several, is for testing. Both parts are in a random order from
    a fixed seed in which the labels are spread evenly: any stretch of a part, such as the first hundred images or the
    last fifth, has the same share of each label, as far as whole pictures allow.
    """
    generator = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    train: list[tuple[float, int]] = []  # each picture's place in the order, 0 to 1, and its index
    test: list[tuple[float, int]] = []
    for label in torch.unique(labels).tolist():
        indices = generator.permutation((labels == label).nonzero().flatten().numpy())
        kept = -(-len(indices) // TEST_SHARE) if len(indices) > 1 else 0
        for part, chosen in ((test, indices[:kept]), (train, indices[kept:])):
            places = (np.arange(len(chosen)) + generator.random()) / max(1, len(chosen))
            part += zip(places.tolist(), chosen.tolist(), strict=True)
    first, second = (torch.tensor([index for _, index in sorted(part)], dtype=torch.int64) for part in (train, test))
    return first, second


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
