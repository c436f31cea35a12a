"""How well typicality tells the test images of a bundle from other pictures: the table of docs/score.md.

    python -m training typicality models/mnist-mlp/2 --data-dir DIR --other-dir DIR

For each kind of picture the table has the area under the ROC curve: the probability that a test image is more typical
than such a picture (1/2 where both are equally so); and how many of them have a typicality below 0.01, as one in a
hundred test images has. Typicality is what the service answers: it is computed from the
bundle's own graphs and files. A second table has the kinds that are made of images or letters, for each label or
letter, because an upside-down 0 is a 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from service import contract
from training import data, other_pictures, pictures
from training.errors import ExportError, TrainingError
from training.graphs import Graphs
from training.other_pictures import Others
from training.prior import Prior
from training.rewrite import read
from training.statistics import Statistics, Terms
from training.steps import Steps

RARE: Final = 0.01  # such a typicality has one in a hundred test images
EXAMPLES: Final = 10  # of each kind, in the picture

Values = npt.NDArray[np.float64]


def auroc(typical: Values, other: Values) -> float:
    """The probability that one of `typical` [N] is larger than one of `other` [M]; equal values count half."""
    right = np.concatenate([np.ones(len(typical)), np.zeros(len(other))])
    return float(roc_auc_score(right, np.concatenate([typical, other])))


class Judge:
    """The typicality of pictures, by the graphs and the statistics of a bundle."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
        self._prior = Prior.from_bytes(files[contract.PRIOR_FILE])
        self._statistics = Statistics.from_bytes(files[contract.STATISTICS_FILE])

    def __call__(self, images: npt.NDArray[np.uint8]) -> Values:
        """The typicality of uint8 images [N, *image_shape]: [N], 0 to 1."""
        return self._statistics.typicality(self._prior, Terms.of(self._graphs, torch.from_numpy(images)))


def tables(judge: Judge, images: npt.NDArray[np.uint8], kinds: Sequence[Others], steps: Steps) -> str:
    """Both tables in Markdown, for test images uint8 [N, *image_shape] and other pictures."""
    lines = [f"| other pictures | how many | AUROC | typicality below {RARE} |", "|---|---|---|---|"]
    details: dict[tuple[str, ...], list[str]] = {}
    with steps.step("other pictures", len(kinds)) as advance:
        typical = judge(images)
        for kind in kinds:
            other = judge(kind.images)
            lines.append(
                f"| {kind.kind} | {len(other):,} | {auroc(typical, other):.4f} | {(other < RARE).mean():.1%} |"
            )
            if kind.tags is not None:
                tags = tuple(np.unique(kind.tags).tolist())
                cells = [f"{auroc(typical, other[kind.tags == tag]):.3f}" for tag in tags]
                heading = [f"| | {' | '.join(tags)} |", "|---|" + "---|" * len(tags)]
                details.setdefault(tags, heading).append(f"| {kind.kind} | {' | '.join(cells)} |")
            advance(1)
    return "\n\n".join(["\n".join(each) for each in (lines, *details.values())])


def examples(images: npt.NDArray[np.uint8], kinds: Sequence[Others]) -> bytes:
    """A PNG file with a row of test images, and a row of other pictures of each kind in turn."""
    rows = [np.resize(each, (EXAMPLES, *images.shape[1:])) for each in (images, *(kind.images for kind in kinds))]
    return pictures.png(pictures.grid(np.concatenate(rows), EXAMPLES), scale=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program: print the tables. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training typicality",
        description="Measure how well typicality tells the test images of a bundle from other pictures.",
    )
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    data.add_option(parser)
    parser.add_argument(
        "--other-dir",
        type=Path,
        help="directory of Fashion-MNIST's files, or of MNIST's for a bundle of Fashion-MNIST; without it they are "
        "downloaded",
    )
    parser.add_argument("--picture", type=Path, help="write a PNG file with a row of pictures of each kind")
    parser.add_argument("--images", type=int, help="use only so many test images, the first ones")
    options = parser.parse_args(arguments)
    try:
        print(_measure(options.bundle, options.data_dir, options.other_dir, options.images, options.picture))
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(
    folder: Path, data_dir: Path | None, other_dir: Path | None, count: int | None, picture: Path | None
) -> str:
    bundle, files = read(folder)
    if contract.STATISTICS_FILE not in files:
        raise ExportError(
            f"{folder} has no {contract.STATISTICS_FILE}: add it with `python -m training statistics {folder}`."
        )
    images, labels = (each.numpy()[:count] for each in data.load(bundle.dataset, "test", data_dir))
    stranger = "mnist" if bundle.dataset == "fashion-mnist" else "fashion-mnist"
    kinds = other_pictures.of_nothing(len(images), bundle.image_shape, bundle.background)
    kinds += other_pictures.of_images(images, labels, bundle.background)
    kinds.append(other_pictures.letters(len(images), bundle.image_shape, bundle.background))
    if bundle.image_shape == (28, 28):
        strangers = data.load(stranger, "test", other_dir)[0].numpy()[:count]
        kinds.insert(0, Others(f"{data.title(stranger)}, test images", strangers))
    if picture is not None:
        picture.write_bytes(examples(images, kinds))
    with Steps() as steps:
        return tables(Judge(files), images, kinds, steps)


if __name__ == "__main__":
    sys.exit(main())
