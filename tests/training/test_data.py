from __future__ import annotations

import dataclasses
import gzip
import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pooch  # type: ignore[import-untyped]
import pytest
import torch

from training import data
from training.__main__ import main
from training.errors import DataError

from . import subset


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The subset's files in a directory that a test may spoil."""
    return Path(shutil.copytree(subset.DIRECTORY, tmp_path / "data"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in place of the user's."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "vae-service" / "mnist"


@pytest.fixture
def mirror() -> Iterator[str]:
    """A web server on this machine that has the subset's files."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(subset.DIRECTORY))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def mirrors(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setitem(data.DATASETS, "mnist", dataclasses.replace(subset.SUBSET, mirrors=addresses))


def test_images_and_labels_come_as_bytes() -> None:
    images, labels = data.load("mnist", "test", subset.DIRECTORY)
    assert (images.shape, images.dtype) == ((200, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((200,), torch.uint8)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert images.max() == 255


def test_plain_files_are_as_good_as_gzipped_ones(copy: Path) -> None:
    expected, _ = data.load("mnist", "test", copy)
    for packed in copy.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert torch.equal(data.load("mnist", "test", copy)[0], expected)


def test_the_last_images_validate() -> None:
    images = torch.arange(10)
    training, validation = data.split(images, 3)
    assert (training.tolist(), validation.tolist()) == ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    with pytest.raises(DataError, match="leaves nothing of 10 images"):
        data.split(images, 10)


def test_some_of_each_label_takes_labels_in_turn() -> None:
    labels = torch.tensor([2, 1, 1, 0, 2, 0, 2])
    assert data.some_of_each_label(labels, 6).tolist() == [3, 1, 0, 5, 2, 4]
    assert data.some_of_each_label(labels, 7).tolist() == [3, 1, 0, 5, 2, 4, 6]


def test_a_missing_file_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "train-labels-idx1-ubyte.gz").unlink()
    assert main([f"--data-dir={copy}", f"--runs-dir={copy}"]) == 1
    assert capsys.readouterr().err == (
        f"{copy} has neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz, which MNIST needs.\n"
    )


def test_a_changed_file_is_refused(copy: Path) -> None:
    path = copy / "t10k-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[1000] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=f"{path} is damaged or another file: its SHA-256, uncompressed, is "):
        data.load("mnist", "test", copy)


def test_a_truncated_file_is_refused(copy: Path) -> None:
    path = copy / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=f"{path} cannot be read: "):
        data.load("mnist", "test", copy)


def test_an_unknown_data_set_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="There is no data set 'mnits'; known are: fashion-mnist, mnist, folder:PATH"):
        data.load("mnits", "train")


def test_without_a_directory_files_are_downloaded_once(
    cache: Path, mirror: str, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors(monkeypatch, nowhere, mirror)
    images, _ = data.load("mnist", "test")
    assert torch.equal(images, data.load("mnist", "test", subset.DIRECTORY)[0])
    mirrors(monkeypatch, nowhere)
    assert torch.equal(images, data.load("mnist", "test")[0])
    assert (cache / "t10k-images-idx3-ubyte.gz").is_file()


def test_a_damaged_download_is_fetched_again(cache: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors(monkeypatch, mirror)
    cache.mkdir(parents=True)
    (cache / "t10k-images-idx3-ubyte.gz").write_bytes(b"half a file")
    assert len(data.load("mnist", "test")[0]) == 200


@pytest.mark.usefixtures("cache")
def test_without_a_network_one_sentence_says_what_to_put_where(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrors(monkeypatch, nowhere)
    assert main([f"--runs-dir={tmp_path}"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == (
        f"MNIST could not be downloaded: {nowhere} cannot be reached (ConnectionError); put "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz (gzipped or not) into a directory DIR and say --data-dir DIR."
    )


@pytest.mark.parametrize(
    ("wanted", "images", "size"), [(5_000, 60_000, 5_000), (5_000, 270, 54), (100, 600, 100), (1, 3, 1)]
)
def test_no_more_than_a_fifth_of_the_images_validate(wanted: int, images: int, size: int) -> None:
    assert data.validation_size(wanted, images) == size
