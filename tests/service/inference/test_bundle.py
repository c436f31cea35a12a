from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.paths import MODELS
from service import contract as names
from service.errors import BundleRefused
from service.inference.bundle import read_bundle
from tests.bundles import seal, write_bundle

SHIPPED = MODELS / "mnist-mlp" / "2"
FILES = sorted(file.name for file in SHIPPED.iterdir())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped bundle, to be damaged."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "mnist-mlp" / "2"))


def test_the_shipped_bundle_is_complete() -> None:
    bundle = read_bundle(SHIPPED)
    assert bundle.contract.id == "mnist-mlp@2"
    assert bundle.golden.image.shape[1:] == (28, 28)
    assert bundle.card.startswith("# ")


@pytest.mark.parametrize("name", [name for name in FILES if name != names.CONTRACT_FILE])
def test_one_changed_byte_in_any_file_refuses_the_bundle(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleRefused, match=f"{name} is not the file"):
        read_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_any_missing_file_refuses_the_bundle(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleRefused, match=f"{name} cannot be read"):
        read_bundle(copy)


def test_a_contract_cut_short_refuses_the_bundle(copy: Path) -> None:
    text = (copy / names.CONTRACT_FILE).read_text()
    (copy / names.CONTRACT_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(BundleRefused, match="not JSON"):
        read_bundle(copy)


@pytest.mark.parametrize("place", ["mnist-mlp/3", "other/2"])
def test_a_bundle_in_another_folder_than_it_says_is_refused(copy: Path, place: str) -> None:
    moved = copy.parents[1] / place
    moved.parent.mkdir(exist_ok=True)
    copy.rename(moved)
    with pytest.raises(BundleRefused, match="says that it is mnist-mlp/2"):
        read_bundle(moved)


@pytest.mark.parametrize(
    "change",
    [
        {"mu": np.zeros((4, 2), np.float32)},
        {"mu": np.zeros((4, 3), np.float64)},
        {"image": np.zeros((4, 5, 5), np.uint8)},
        {"image": np.zeros((0, 6, 4), np.uint8)},
        {"z": np.array([{}], dtype=object)},
    ],
    ids=["wrong length", "wrong type", "wrong shape", "empty", "pickled"],
)
def test_golden_arrays_that_do_not_fit_the_contract_refuse_the_bundle(
    tmp_path: Path, change: dict[str, object]
) -> None:
    folder = write_bundle(tmp_path)
    with np.load(folder / names.GOLDEN_FILE) as arrays:
        np.savez(folder / names.GOLDEN_FILE, **{**arrays, **change})
    seal(folder)
    with pytest.raises(BundleRefused, match=r"golden\.npz does not hold"):
        read_bundle(folder)
