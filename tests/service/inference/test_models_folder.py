from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.errors import CannotStart
from service.inference.models_folder import check


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders that look like the bundles one@1, one@2 and two@1, and some that look like none."""
    for bundle in ("one/1", "one/2", "two/1", "two/latest", "three/01", "four"):
        (tmp_path / bundle).mkdir(parents=True)
    (tmp_path / "five").write_text("a file")
    return tmp_path


@pytest.mark.parametrize(
    ("default", "selected"),
    [
        ("one", ()),
        ("one@1", ()),
        ("one@1", ("one",)),
        ("one", ("one@1",)),
        ("two", ("one@2", "two@1")),
    ],
)
def test_a_folder_with_all_that_the_settings_name(folder: Path, default: str, selected: tuple[str, ...]) -> None:
    check(folder, default, selected)


@pytest.mark.parametrize(
    ("default", "selected", "sentence"),
    [
        (
            "three",
            (),
            "The default model three is not in {folder}: set VAE_DEFAULT_MODEL to one of one@1, one@2, two@1, "
            "or VAE_MODELS_DIR to another folder.",
        ),
        ("one@3", (), "The default model one@3 is not in {folder}: "),
        ("one@latest", (), "The default model one@latest is not in {folder}: "),
        (
            "one",
            ("two",),
            "VAE_MODELS leaves out the default model one: add it there, or set VAE_DEFAULT_MODEL to one of two@1.",
        ),
        ("one@2", ("one@1",), "VAE_MODELS leaves out the default model one@2: "),
        (
            "one",
            ("one", "four"),
            "VAE_MODELS names four, which is not in {folder}: set it to some of one@1, one@2, two@1.",
        ),
    ],
)
def test_a_folder_without_what_the_settings_name(
    folder: Path, default: str, selected: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CannotStart, match=re.escape(sentence.format(folder=folder))):
        check(folder, default, selected)


def test_a_sentence_does_not_name_a_hundred_models(folder: Path) -> None:
    for version in range(3, 101):
        (folder / "one" / str(version)).mkdir()
    with pytest.raises(CannotStart, match=r"one of one@1, one@10, .* and 91 more, or VAE_MODELS_DIR"):
        check(folder, "three", ())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "There is no folder {folder}: set VAE_MODELS_DIR to the folder of models; a relative path begins"),
        ("a file", "{folder} is not a folder: set VAE_MODELS_DIR"),
        ("a link to itself", "The folder of models {folder} cannot be read (Too many levels of symbolic links): "),
        ("empty", "There is no model in {folder}: set VAE_MODELS_DIR to a folder that holds models as NAME/VERSION/."),
        ("a model", "There is no model in {folder}: "),
    ],
)
def test_a_folder_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sentence: str) -> None:
    folder = tmp_path / "models"
    match kind:
        case "a file":
            folder.touch()
        case "a link to itself":
            folder.symlink_to(folder)
        case "empty":
            folder.mkdir()
        case "a model":
            (folder / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotStart, match=re.escape(sentence.format(folder=folder))):
        check(Path("models"), "one", ())  # a relative path, and the sentence has the whole


def test_a_folder_that_this_user_must_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", scandir)  # root, who may run this, reads everything
    with pytest.raises(CannotStart, match=r"cannot be read \(Permission denied\): give this user the right"):
        check(tmp_path, "one", ())
