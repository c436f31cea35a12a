from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.digits import decoded, digits, labels
from service import contract
from training import data, other_pictures, typicality
from training.rewrite import read
from training.steps import SILENT
from training.typicality import Judge, auroc, tables

from . import subset
from .conftest import Run
from .test_statistics import without_statistics


def test_auroc_is_the_probability_of_the_right_order() -> None:
    typical, other = np.array([0.9, 0.5, 0.1]), np.array([0.5, 0.0])
    assert auroc(typical, other) == pytest.approx((2 + 1.5 + 1) / 6)
    assert auroc(typical, np.zeros(4)) == 1


def test_other_pictures_are_as_their_names_say() -> None:
    images, ink = digits()[:40], 255 - digits()[:40]
    made = {kind.kind: kind for kind in other_pictures.of_images(images, labels()[:40], 0)}
    np.testing.assert_array_equal(made["inverted"].images, ink)
    np.testing.assert_array_equal(made["upside down"].images[:, ::-1, ::-1], images)
    np.testing.assert_array_equal(made["upper half"].images + made["lower half"].images, images)
    np.testing.assert_array_equal(made["left half"].images + made["right half"].images, images)
    assert (made["two on top of each other"].images >= images).all()
    assert made["mirrored"].tags is not None
    assert made["mirrored"].tags.tolist() == [str(label) for label in labels()[:40]]
    nothing = {kind.kind: kind.images for kind in other_pictures.of_nothing(30, (28, 28), 0)}
    dots = (nothing["nearly empty: 1 to 5 dots"] > 0).sum(axis=(1, 2))
    assert dots.min() >= 0
    assert dots.max() <= other_pictures.DOTS


@pytest.mark.parametrize(("shape", "background"), [((28, 28), 0), ((28, 28), 255), ((20, 32, 3), 255)])
def test_pictures_of_every_kind_have_the_shape_of_the_data_set(shape: tuple[int, ...], background: int) -> None:
    images = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (12, *shape), np.uint8)
    kinds = [
        *other_pictures.of_nothing(12, shape, background),
        *other_pictures.of_images(images, np.arange(12, dtype=np.uint8), background),
        other_pictures.letters(12, shape, background),
    ]
    for kind in kinds:
        assert kind.images.dtype == np.uint8
        assert kind.images.shape[1:] == shape, kind.kind
        assert kind.images.flags["C_CONTIGUOUS"]


def test_letters_are_placed_like_digits_and_all_differ() -> None:
    letters = other_pictures.letters(52, (28, 28), 0)
    assert letters.tags is not None
    assert "".join(letters.tags[:4]) == "ABCD"
    boxes = [np.argwhere(image > 0) for image in letters.images]
    assert all((box.max(0) - box.min(0)).max() + 1 == 20 for box in boxes)
    assert len(np.unique(letters.images, axis=0)) == 52


def test_the_tables_have_a_row_for_each_kind_and_a_column_for_each_label(finished: Run) -> None:
    _, files = read(finished.bundle)
    images, tags = digits()[:100].copy(), labels()[:100]
    kinds = [*other_pictures.of_nothing(50, (28, 28), 0), *other_pictures.of_images(images, tags, 0)]
    first, second = tables(Judge(files), images, kinds, SILENT).split("\n\n")
    cells = [row.strip("| ").split(" | ") for row in first.splitlines()[2:]]
    rows = {kind: (float(area), float(rare.rstrip("%"))) for kind, _, area, rare in cells}
    assert list(rows) == [kind.kind for kind in kinds]
    for kind in ("uniform noise", "Gaussian noise", "full", "inverted"):
        assert rows[kind][0] > 0.98
        assert rows[kind][1] > 90
    assert second.splitlines()[0] == "| | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |"


def test_the_command_needs_statistics_and_says_how_to_add_them(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_statistics(finished, tmp_path)
    assert typicality.main([str(folder), f"--data-dir={subset.DIRECTORY}"]) == 1
    assert f"`python -m training statistics {folder}`" in capsys.readouterr().err


def test_the_command_prints_the_tables(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the digits in the place of Fashion-MNIST, whose files are not in the repository."""
    monkeypatch.setitem(data.DATASETS, "fashion-mnist", subset.SUBSET)
    folder = Path(shutil.copytree(finished.bundle, tmp_path / "mnist-mlp" / "1"))
    options = [f"--data-dir={subset.DIRECTORY}", f"--other-dir={subset.DIRECTORY}", "--images=30"]
    options.append(f"--picture={tmp_path / 'kinds.png'}")
    assert typicality.main([str(folder), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| 0.5000 |") == 1  # the same pictures on both sides
    assert decoded((tmp_path / "kinds.png").read_bytes()).shape == (28 * 21, 280)
    assert "| capital letters | 30 |" in printed
    assert contract.STATISTICS_FILE in {path.name for path in folder.iterdir()}
