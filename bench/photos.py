"""How many photographed digits are read right after `preprocess=digit`, and which pictures without one are refused.

    python -m bench.photos --data-dir DIR                     (MNIST's files; else they are downloaded)
    python -m bench.photos --data-dir DIR --before COMMIT     (beside what the code of that commit makes of them)
    python -m bench.photos --sheet docs/pictures.jpg          (photos beside what the model sees; nothing is measured)

Prints the table of docs/pictures.md. Photos are made of MNIST's test images, with seeds from 0. What reads them is the
classifier in training/classifiers/. COMMIT is one whose service/images/preprocess.py stands alone.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from harness.digits import Images, digits
from harness.no_digits import KINDS, no_digit
from harness.paths import ROOT
from harness.photos import EFFECTS, photo
from service.images.digit import UnusablePicture
from service.images.preprocess import SEARCH_SIDE, Target, fit
from training import data
from training.classifier import CLASSIFIERS, Classifier
from training.train import prepare_cpu

TARGET: Final = Target((28, 28), 0)
_TILE: Final = 120
_COLUMNS: Final = 4

Reader = Callable[[Image.Image], Images]


@dataclass
class Outcome:
    """What came of the photos of one row."""

    photos: int
    right: int
    refused: int

    def shares(self, *, digit: bool) -> str:
        """Two cells of the table."""
        right = f"{self.right / self.photos:.1%}" if digit else ""
        return f"{right} | {self.refused / self.photos:.1%}"


def now(picture: Image.Image) -> Images:
    """What the model sees with this code."""
    return fit(picture, TARGET, "digit").image


def before(commit: str) -> Reader:
    """What it saw with the code of a commit."""
    path = f"{commit}:service/images/preprocess.py"
    code = subprocess.run(["git", "show", path], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    module: Any = types.ModuleType("preprocess_before")
    sys.modules[module.__name__] = module  # dataclasses look it up
    exec(compile(code, path, "exec"), module.__dict__)
    return lambda picture: module.fit(picture, (28, 28), "digit", 0)


def outcome(pictures: Sequence[bytes], labels: Sequence[int], reader: Reader, classifier: Classifier) -> Outcome:
    """Read pictures, whose digits are `labels`; these are empty when they have none."""
    seen: dict[int, Images] = {}
    for number, file in enumerate(pictures):
        picture = Image.open(io.BytesIO(file))
        picture.draft(None, (SEARCH_SIDE, SEARCH_SIDE))
        try:
            seen[number] = reader(picture)
        except ValueError:  # UnusablePicture, of this code or of another commit
            continue
    right = 0
    if seen and labels:
        taken_for = classifier.classify(np.stack(list(seen.values())))[1]
        right = int((taken_for == np.array([labels[number] for number in seen])).sum())
    return Outcome(len(pictures), right, len(pictures) - len(seen))


def rows(options: argparse.Namespace) -> Iterator[tuple[str, list[bytes], list[int]]]:
    """Each row's name, pictures and labels; the pictures of a row are made when it is reached."""
    images, labels = (part.numpy() for part in data.load("mnist", "test", options.data_dir))
    for name in ("all, mixed", *EFFECTS):
        effects = [name] if name in EFFECTS else None
        count = options.each if effects else options.count
        yield name, [photo(images[n], n, effects) for n in range(count)], labels[:count].tolist()
    for kind in KINDS:
        yield f"no digit: {kind}", [no_digit(kind, seed) for seed in range(options.each)], []


def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    prepare_cpu()
    classifier = Classifier((CLASSIFIERS / "mnist.onnx").read_bytes())
    readers = [now] + ([before(options.before)] if options.before else [])
    heads = ["read right | refused", "read right before | refused before"][: len(readers)]
    print(f"| photos | | {' | '.join(heads)} |\n|---|---{'|---|---' * len(readers)}|")
    without = [Outcome(0, 0, 0) for _ in readers]
    for name, pictures, labels in rows(options):
        found = [outcome(pictures, labels, reader, classifier) for reader in readers]
        cells = " | ".join(one.shares(digit=bool(labels)) for one in found)
        print(f"| {name} | {len(pictures)} | {cells} |", flush=True)
        if not labels:
            for total, one in zip(without, found, strict=True):
                total.photos += one.photos
                total.refused += one.refused
    cells = " | ".join(total.shares(digit=False) for total in without)
    print(f"| no digit: all | {without[0].photos} | {cells} |")
    opened = [Image.open(io.BytesIO(photo(digits()[n], n))) for n in range(20)]
    for picture in opened:
        picture.draft(None, (SEARCH_SIDE, SEARCH_SIDE))
        picture.load()
    spent = []
    for picture in opened:
        start = time.process_time()
        try:
            now(picture)
        except UnusablePicture:
            continue
        spent.append(time.process_time() - start)
    print(
        f"\nThe search takes {np.median(spent) * 1e3:.1f} ms of a CPU for a photo, after its JPEG is decoded (median)."
    )


def sheet(path: Path) -> None:
    """Write photos of this repository's digits, each beside what the model sees of it."""
    page = Image.new("RGB", (_COLUMNS * 2 * _TILE, 4 * _TILE), "white")
    shown = [[name] for name in ("light", "shadow", "ruled", "squared", "edge", "specks", "marks", "blur")]
    for number in range(16):
        effects = shown[number] if number < len(shown) else None
        picture = Image.open(io.BytesIO(photo(digits()[number], number, effects)))
        seen = Image.fromarray(now(picture)).resize((_TILE - 8, _TILE - 8), Image.Resampling.NEAREST)
        picture.thumbnail((_TILE, _TILE))
        left, top = number % _COLUMNS * 2 * _TILE, number // _COLUMNS * _TILE
        page.paste(picture, (left + (_TILE - picture.width) // 2, top + (_TILE - picture.height) // 2))
        page.paste(seen, (left + _TILE + 4, top + 4))
    page.save(path, quality=80)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.photos", description="Measure preprocess=digit in photos.")
    parser.add_argument("--data-dir", type=Path, help="directory of MNIST's files; else they are downloaded")
    parser.add_argument("--count", type=int, default=1000, help="how many photos with mixed effects")
    parser.add_argument("--each", type=int, default=200, help="how many of each effect and each kind without a digit")
    parser.add_argument("--before", metavar="COMMIT", help="also measure the code of this commit")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a picture of photos instead")
    options = parser.parse_args(arguments)
    if options.sheet:
        sheet(options.sheet)
    else:
        measure(options)


if __name__ == "__main__":
    main()
