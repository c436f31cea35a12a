from __future__ import annotations

from pathlib import Path

import pytest

from service.api import keys as module
from service.api.keys import Keys
from service.errors import Unauthorized


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


def test_a_file_without_a_key_opens_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\n# none yet\n")
    with pytest.raises(Unauthorized):
        Keys(tmp_path / "keys").check({b"x-api-key": b""})


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


def test_a_file_that_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="keys"):
        Keys(tmp_path / "keys")
