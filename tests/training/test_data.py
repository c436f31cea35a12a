from __future__ import annotations

import dataclasses
import gzip
import http.server
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pooch  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image

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


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections: bound, and never listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/"


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
    assert main([f"--data-dir={copy}"]) == 1
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
    nowhere: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrors(monkeypatch, nowhere)
    assert main([]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == (
        f"MNIST could not be downloaded: {nowhere} cannot be reached (ConnectionError); put "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz (gzipped or not) into a directory DIR and say --data-dir DIR."
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels of twenty colour pictures each, 6 wide and 4 high, on a light ground."""
    draw = np.random.Generator(np.random.PCG64(0))
    for name, colour in (("red", (200, 10, 10)), ("blue", (10, 10, 200))):
        (tmp_path / "toys" / name).mkdir(parents=True)
        for index in range(20):
            picture = np.full((4, 6, 3), 240, np.uint8)
            picture[1:3, 2:4] = np.array(colour) + draw.integers(0, 10, 3)
            Image.fromarray(picture).save(tmp_path / "toys" / name / f"{index:02}.png")
    return tmp_path / "toys"


class TestFolder:
    """A folder of pictures as a data set."""

    def test_sub_folders_are_labels_in_the_order_of_their_names(self, folder: Path) -> None:
        images, labels = data.load("folder:toys", "train", folder.parent)
        assert (images.shape, images.dtype) == ((36, 4, 6, 3), torch.uint8)
        assert labels.tolist() == [0] * 18 + [1] * 18
        assert images[0, 1, 2, 2] > 190  # blue
        assert images[-1, 1, 2, 0] > 190  # red

    def test_every_tenth_picture_is_for_testing_and_no_other(self, folder: Path) -> None:
        images, labels = data.load("folder:toys", "test", folder.parent)
        assert labels.tolist() == [0, 0, 1, 1]
        training = data.load("folder:toys", "train", folder.parent)[0]
        assert not any(torch.equal(one, other) for one in images for other in training)
        expected = np.asarray(Image.open(folder / "blue" / "10.png"))
        np.testing.assert_array_equal(images[1].numpy(), expected)

    def test_a_folder_without_sub_folders_has_one_label(self, folder: Path) -> None:
        assert set(data.load(f"folder:{folder / 'red'}", "train")[1].tolist()) == {0}

    def test_pictures_that_are_all_grey_have_no_colour_axis(self, folder: Path) -> None:
        for path in folder.rglob("*.png"):
            Image.open(path).convert("L").convert("RGB").save(path)
        assert data.load(f"folder:{folder}", "test")[0].shape == (4, 4, 6)

    def test_the_background_is_what_the_edges_show(self, folder: Path) -> None:
        name = f"folder:{folder}"
        assert data.background(name, data.load(name, "train")[0]) == 240
        assert data.background("mnist", data.load("mnist", "train", subset.DIRECTORY)[0]) == 0

    def test_its_published_name_does_not_say_where_it_lies(self, folder: Path) -> None:
        assert data.published(f"folder:{folder}") == "folder:toys"
        assert data.title("folder:toys") == "toys"
        assert data.published("mnist") == "mnist"

    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda folder: shutil.rmtree(folder), "There is no folder"),
            (lambda folder: (folder / "red" / "03.png").write_bytes(b"no"), "03.png is not a picture that can be read"),
            (
                lambda folder: Image.new("RGB", (5, 5)).save(folder / "red" / "03.png"),
                r"have several sizes \(5x5, 6x4, ...\); they must have one",
            ),
            (lambda folder: [path.unlink() for path in folder.rglob("*.png")], "has too few pictures"),
        ],
        ids=["missing", "broken", "sizes", "empty"],
    )
    def test_what_cannot_be_used_is_one_sentence(
        self, folder: Path, spoil: Callable[[Path], object], sentence: str
    ) -> None:
        spoil(folder)
        with pytest.raises(DataError, match=sentence):
            data.load(f"folder:{folder}", "train")
