from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training import data, folder
from training.errors import DataError

from . import subset

RED, BLUE = (200, 10, 10), (10, 10, 200)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Two labels of twenty colour pictures each, 6 wide and 4 high, on a light ground. No two are equal."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "toys" / name).mkdir(parents=True)
        for index in range(20):
            picture = np.full((4, 6, 3), 240, np.uint8)
            picture[1:3, 2:4] = np.array(colour) + index
            Image.fromarray(picture).save(tmp_path / "toys" / name / f"{index:02}.png")
    return tmp_path / "toys"


def test_sub_folders_are_labels_in_the_order_of_their_names(toys: Path) -> None:
    sets = data.load_both("folder:toys", toys.parent)
    assert sets.label_names == ("blue", "red")
    assert (sets.train_images.shape, sets.train_images.dtype) == ((36, 4, 6, 3), torch.uint8)
    for images, labels in ((sets.train_images, sets.train_labels), (sets.test_images, sets.test_labels)):
        reds = images[:, 1, 2, 0] > images[:, 1, 2, 2]
        assert torch.equal(reds.to(torch.uint8), labels)


def test_one_picture_in_ten_of_each_label_is_for_testing_and_no_other(toys: Path) -> None:
    sets = data.load_both("folder:toys", toys.parent)
    assert sets.test_labels.bincount().tolist() == [2, 2]
    together = torch.cat([sets.train_images, sets.test_images]).flatten(1)
    assert len({bytes(row.numpy()) for row in together}) == 40
    again = data.load_both("folder:toys", toys.parent)
    assert torch.equal(again.train_images, sets.train_images)
    assert torch.equal(data.load("folder:toys", "test", toys.parent)[0], sets.test_images)


def test_any_stretch_of_a_part_has_each_label_s_share() -> None:
    counts = [600, 300, 90, 10]
    labels = torch.repeat_interleave(torch.arange(4, dtype=torch.uint8), torch.tensor(counts))
    train, test = folder.split(labels)
    assert labels[test].bincount().tolist() == [60, 30, 9, 1]
    for start, stop in ((0, 100), (0, 20), (400, 500), (720, 900)):
        found = labels[train][start:stop].bincount(minlength=4)
        expected = (stop - start) * torch.tensor(counts) / 1_000
        assert (found - expected).abs().max() <= 1
    assert train[:100].sort().values.tolist() != train[:100].tolist()  # shuffled within a label, too


def test_a_label_of_few_pictures_has_one_to_test_and_the_others_to_train() -> None:
    train, test = folder.split(torch.tensor([0, 0, 1, 2, 2, 2], dtype=torch.uint8))
    assert sorted(test.tolist())[0] in (0, 1)
    assert len(test) == 2
    assert 2 in train.tolist()  # the only picture of label 1


def test_a_folder_without_sub_folders_has_one_label_without_a_name(toys: Path) -> None:
    sets = data.load_both(f"folder:{toys / 'red'}")
    assert set(sets.train_labels.tolist()) == {0}
    assert sets.label_names == ()


def test_pictures_that_are_all_grey_have_no_colour_axis(toys: Path) -> None:
    for path in toys.rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert data.load(f"folder:{toys}", "test")[0].shape == (4, 4, 6)


def test_the_background_is_what_the_edges_show(toys: Path) -> None:
    name = f"folder:{toys}"
    assert data.background(name, data.load(name, "train")[0]) == 240
    assert data.background("mnist", data.load("mnist", "train", subset.DIRECTORY)[0]) == 0


def test_its_published_name_does_not_say_where_it_lies(toys: Path) -> None:
    assert data.published(f"folder:{toys}") == "folder:toys"
    assert data.title("folder:toys") == "toys"
    assert data.published("mnist") == "mnist"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda toys: shutil.rmtree(toys), "There is no folder"),
        (lambda toys: (toys / "red" / "03.png").write_bytes(b"no"), "03.png is not a picture that can be read"),
        (
            lambda toys: Image.new("RGB", (5, 5)).save(toys / "red" / "03.png"),
            r"have several sizes \(5x5, 6x4, ...\); they must have one",
        ),
        (lambda toys: (toys / "red").rename(toys / "re\td"), r"has the name 're\\td', which cannot be a label's name"),
        (lambda toys: [path.unlink() for path in (toys / "red").glob("*.png")], r"red has no pictures \(.bmp, "),
        (
            lambda toys: [path.unlink() for path in toys.rglob("*.png") if path.name != "03.png"],
            r"has too few pictures \(2\) to train and to test",
        ),
    ],
    ids=["missing", "broken", "sizes", "name", "empty", "few"],
)
def test_what_cannot_be_used_is_one_sentence(toys: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    spoil(toys)
    with pytest.raises(DataError, match=sentence):
        data.load(f"folder:{toys}", "train")
