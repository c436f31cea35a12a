"""A models folder in which everything is wrong that can be: each fault stays its bundle's own."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.connection import Connection, request
from harness.servers import Server, running, wait_for
from service.inference import models_folder, registry
from service.inference.bundle import read_bundle
from service.inference.registry import Registry, RegistryOptions, open_registry
from tests.bundles import seal, write_bundle


def bury(folder: Path) -> None:
    (folder / "model.json").write_text("[" * 200_000)


def nest(folder: Path) -> None:
    recipe: Any = 1
    for _ in range(100):
        recipe = [recipe]
    seal(folder, recipe={"x": recipe})


def link_to_nothing(folder: Path) -> None:
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").symlink_to("nothing")


def link_to_a_device(folder: Path) -> None:
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").symlink_to("/dev/zero")


def make_pipe(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def make_folder(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    (folder / "golden.npz").mkdir()


def make_huge(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        os.truncate(folder / name, 2**40)

    return make


def claims(**claims: Any) -> Callable[[Path], None]:
    return lambda folder: seal(folder, **claims)


def misname(folder: Path) -> None:
    folder.parent.rename(folder.parents[1] / os.fsdecode(b"odd-\xff"))


# What is done to a bundle, and what is then said of it.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "brackets": (bury, "model.json: nested more than 32 deep."),
    "nested": (nest, "model.json: nested more than 32 deep."),
    "null": (claims(metrics={"x": None}), "model.json: metrics is not an object of numbers."),
    "infinite": (claims(metrics={"x": float("inf")}), "model.json: the number inf is not finite, or an integer"),
    "long": (claims(metrics={"x": 10**4000}), "model.json: the number 1000"),
    "tools": (claims(tools={"numpy": 2}), "model.json: tools is not an object of strings."),
    "surrogate": (claims(dataset="\ud800"), r"model.json: the string '\ud800' is no text."),
    "surrogate-key": (claims(recipe={"\ud800": 1}), r"model.json: the string '\ud800' is no text."),
    "wordy": (claims(**{"x" * 10_000: 1}), "model.json: missing or unknown keys: xxx"),
    "link": (link_to_nothing, "encoder.onnx cannot be read (No such file or directory)."),
    "device": (link_to_a_device, "encoder.onnx is not a regular file."),
    "pipe": (make_pipe("decoder.onnx"), "decoder.onnx is not a regular file."),
    "pipe-for-all": (make_pipe("model.json"), "model.json is not a regular file."),
    "folder": (make_folder, "golden.npz is not a regular file."),
    "huge": (make_huge("encoder.onnx"), "encoder.onnx has 1099511627776 bytes, and "),
    "huge-for-all": (make_huge("model.json"), "model.json has 1099511627776 bytes, and 1048576 are the most."),
    "misnamed": (misname, "model.json says that it is misnamed/1."),
}


def place_of(name: str) -> str:
    return r"odd-\udcff/1" if name == "misnamed" else f"{name}/1"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that refuse bundles, and say so in their log."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            running(tmp_path / "log", default_model="tiny", watch_seconds=0.05, **settings)
        )


def listed(server: Server) -> Any:
    with Connection(server.port) as connection:
        answer = connection.ask(request("/models", None, method="GET"))
    assert answer.status == 200
    return answer.json


def says(server: Server, refused: dict[str, str]) -> bool:
    return bool(listed(server)["refused"] == refused)


def served(server: Server) -> list[str]:
    return [model["id"] for model in listed(server)["models"]]


@pytest.mark.parametrize("when", ["at the start", "while it is served"])
def test_each_fault_is_its_bundles_own(serve: Callable[..., Server], models: Path, when: str) -> None:
    server = serve(models_dir=models) if when != "at the start" else None
    for name, (spoil, _) in FAULTS.items():
        folder = write_bundle(models.parent / "staged", name)
        spoil(folder)
    for staged in (models.parent / "staged").iterdir():
        staged.rename(models / staged.name)
    server = server or serve(models_dir=models)
    wait_for(lambda: len(listed(server)["refused"]) == len(FAULTS))
    refused = listed(server)["refused"]
    for name, (_, sentence) in FAULTS.items():
        place = place_of(name)
        assert refused[place].startswith(f"{place}: {sentence}")
        assert len(refused[place]) < 600
    # Nothing of this hides later changes: of another bundle, or of one that was refused.
    write_bundle(models, version=2)
    wait_for(lambda: served(server) == ["tiny@1", "tiny@2"])
    shutil.rmtree(models / "link" / "1")
    write_bundle(models, "link")
    wait_for(lambda: served(server) == ["link@1", "tiny@1", "tiny@2"])
    assert "Traceback" not in server.log.read_text()


def test_a_file_that_a_link_leads_to_is_followed(serve: Callable[..., Server], models: Path) -> None:
    folder = write_bundle(models, "linked")
    (folder / "encoder.onnx").rename(models.parent / "graph")
    (folder / "encoder.onnx").symlink_to(models.parent / "graph")
    (models.parent / "graph").rename(models.parent / "later")
    server = serve(models_dir=models)
    assert list(listed(server)["refused"]) == ["linked/1"]
    (models.parent / "later").rename(models.parent / "graph")
    wait_for(lambda: served(server) == ["linked@1", "tiny@1"])


def test_a_folder_of_models_that_is_away_leaves_all_as_it_was(serve: Callable[..., Server], models: Path) -> None:
    server = serve(models_dir=models)
    for reason, instead in (
        ("No such file or directory", None),
        ("Too many levels of symbolic links", models),
        ("Not a directory", Path("/dev/null")),
    ):
        models.rename(models.with_name("away"))
        if instead is not None:
            models.symlink_to(instead)
        refused = {".": f"The folder of models cannot be read ({reason})."}
        wait_for(partial(says, server, refused))
        assert served(server) == ["tiny@1"]
        if instead is not None:
            models.unlink()
        models.with_name("away").rename(models)
        wait_for(partial(says, server, {}))
    log = server.log.read_text()
    assert log.count("The folder of models cannot be read (No such file or directory).") == 1
    assert log.count("The folder of models can be read again.") == 3
    assert "No longer serving" not in log


def opened(models: Path) -> Registry:
    return open_registry(models, default="tiny", options=RegistryOptions("cpu", threads=1, batch=8))


@pytest.mark.parametrize("place", ["", "other", "other/1"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.EMFILE])
def test_a_folder_that_cannot_be_read_keeps_what_is_in_it(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, number: int
) -> None:
    """Root, who may run this, reads everything."""
    write_bundle(models, "other")
    (write_bundle(models, "other", 2) / "decoder.onnx").unlink()
    registry = opened(models)
    before, refused = list(registry), registry.refused
    scandir = os.scandir

    def fail(folder: str | Path) -> Any:
        if Path(folder) == models / place:
            raise OSError(number, os.strerror(number))
        return scandir(folder)

    with monkeypatch.context() as failing:
        failing.setattr("os.scandir", fail)
        for _ in range(2):
            registry.refresh()
            assert list(registry) == before
            assert registry.refused.keys() == refused.keys() | {place or "."}
            assert os.strerror(number) in registry.refused[place or "."]
        (models / "tiny").rename(models.parent / "gone")
        registry.refresh()
        assert len(list(registry)) == (2 if place == "" else 1)
    registry.refresh()
    assert registry.refused == refused
    assert [model.engine.contract.id for model in registry] == ["other@1"]
    assert caplog.text.count(os.strerror(number)) == 1
    registry.close()


def test_a_folder_of_no_model_may_be_unreadable(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "lost+found").mkdir()
    scandir = os.scandir

    def fail(folder: str | Path) -> Any:
        if Path(folder).name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr("os.scandir", fail)
    assert models_folder.look(models, ()).unreadable == {}


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), UnicodeDecodeError("utf-8", b"", 0, 1, "x")])
def test_whatever_goes_wrong_while_a_bundle_is_opened_is_its_own(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    served = opened(models)
    write_bundle(models, "odd")
    write_bundle(models, "sound")

    def fail(folder: Path) -> Any:
        if folder.parent.name == "odd":
            raise error
        return read_bundle(folder)

    monkeypatch.setattr(registry, "read_bundle", fail)
    for _ in range(2):
        served.refresh()
        assert [model.engine.contract.id for model in served] == ["sound@1", "tiny@1"]
        assert served.refused == {"odd/1": "odd/1: it cannot be opened; the log says more."}
    assert caplog.text.count("Traceback") == 1
    served.close()


def test_a_bundle_that_is_refused_for_a_fault_of_the_machine_is_tried_again(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = opened(models)
    write_bundle(models, "other")
    with monkeypatch.context() as failing:
        failing.setattr(registry, "RETRY_SECONDS", 0.0)
        failing.setattr("os.fstat", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        for _ in range(3):
            served.refresh()
            assert served.due
            assert served.refused == {"other/1": "other/1: model.json cannot be read (Input/output error)."}
    served.refresh()
    assert not served.due
    assert [model.engine.contract.id for model in served] == ["other@1", "tiny@1"]
    assert caplog.text.count("Input/output error") == 1
    served.close()


def test_arrays_that_would_fill_the_memory_are_not_unpacked(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.inference.files.MAX_BUNDLE_BYTES", 100)
    with pytest.raises(Exception, match=r"golden\.npz does not hold the arrays of a self-test"):
        opened(models)


def test_the_sentence_of_a_refusal_can_be_written_whatever_the_bundle_says(models: Path) -> None:
    text = (models / "tiny" / "1" / "model.json").read_text()
    document = json.loads(text) | {"name": "\ud800" * 10}
    folder = models / "other" / "1"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(document))
    served = opened(models)
    assert served.refused["other/1"].encode()
    served.close()
