from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.api import keys as module
from service.api.keys import Keys
from service.errors import CannotStart, Unauthorized


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst-key\n\n  second-key  \n")
    return file


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer first-key"},
        {b"authorization": b"bearer second-key"},
        {b"x-api-key": b"first-key"},
        {b"x-api-key": b"second-key", b"authorization": b"Basic nonsense"},
    ],
)
def test_any_of_the_keys_opens(file: Path, headers: dict[bytes, bytes]) -> None:
    Keys(file).check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Basic first-key"},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer third-key"},
        {b"x-api-key": b""},
        {b"x-api-key": b"# ours"},
        {b"x-api-key": b"first-ke"},
        {b"x-api-key": b"first-key2"},
        {b"x-api-key": b"wrong", b"authorization": b"Bearer first-key"},
    ],
)
def test_nothing_else_does(file: Path, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Unauthorized):
        Keys(file).check(headers)


def test_without_a_file_no_key_is_needed() -> None:
    Keys(None).check({})


def test_a_file_that_loses_its_last_key_opens_to_nobody_and_that_is_logged(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    keys = Keys(file)
    file.write_text("\n# none any more\n")
    for sent in (b"first-key", b""):
        with pytest.raises(Unauthorized):
            keys.check({b"x-api-key": sent})
    assert f"{file} holds no API key any more: every request that needs one is refused." in caplog.messages


def test_keys_are_rotated_without_a_restart(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    keys = Keys(file)
    keys.check({b"x-api-key": b"first-key"})
    new = file.with_name("new")
    new.write_text("third-key\n")
    new.replace(file)
    keys.check({b"x-api-key": b"third-key"})
    with pytest.raises(Unauthorized):
        keys.check({b"x-api-key": b"first-key"})


def test_a_file_that_vanishes_leaves_the_keys_of_before(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    keys = Keys(file)
    file.unlink()
    keys.check({b"x-api-key": b"first-key"})
    assert "cannot be read" in caplog.text
    assert "first-key" not in caplog.text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "The file of API keys {path} cannot be read (No such file or directory): set VAE_API_KEYS_FILE"),
        ("folder", "The file of API keys {path} cannot be read (Is a directory): set VAE_API_KEYS_FILE"),
        ("empty", "The file of API keys {path} holds no key: write one per line into it, or leave VAE_API_KEYS_FILE"),
    ],
)
def test_a_file_without_keys_at_the_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text("\n# none yet\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotStart, match=re.escape(sentence.format(path=tmp_path / name))):
        Keys(Path(name))
