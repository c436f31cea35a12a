from __future__ import annotations

import os
import re
from pathlib import Path
from unittest.mock import MagicMock

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
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    keys = Keys(file)
    file.write_text("\n# none any more\n")
    for sent in (b"first-key", b""):
        with pytest.raises(Unauthorized):
            keys.check({b"x-api-key": sent})
    assert f"{file} holds no API key any more: every request that needs one is refused." in caplog.messages


def test_keys_are_rotated_without_a_restart(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
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
    for _ in range(3):
        keys.check({b"x-api-key": b"first-key"})
    assert caplog.text.count("cannot be read") == 1
    assert "first-key" not in caplog.text


class TestLooks:
    """The file changes while the service looks at it, once a second."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> MagicMock:
        """The clocks of the keys. At first the file has just been changed, and stays so: only looks move on."""
        clock = MagicMock()
        clock.monotonic.return_value = 0.0
        clock.time.return_value = file.stat().st_ctime
        monkeypatch.setattr(module, "time", clock)
        return clock

    @staticmethod
    def accepted(keys: Keys, key: bytes) -> bool:
        try:
            keys.check({b"x-api-key": key})
        except Unauthorized:
            return False
        return True

    def look(self, keys: Keys, clock: MagicMock) -> tuple[bool, bool]:
        """Whether the first and the third key open at the next look."""
        clock.monotonic.return_value += module.LOOK_SECONDS
        return self.accepted(keys, b"first-key"), self.accepted(keys, b"third-key")

    def test_a_file_that_is_rewritten_in_place_is_taken_when_it_is_whole(self, file: Path, clock: MagicMock) -> None:
        keys = Keys(file)
        for content in ("", "thi", "third-k"):
            file.write_text(content)
            assert self.look(keys, clock) == (True, False)
        file.write_text("third-key")
        assert self.look(keys, clock) == (True, False)
        assert self.look(keys, clock) == (False, True)

    def test_a_file_that_was_changed_a_while_ago_is_taken_at_the_first_look(self, file: Path, clock: MagicMock) -> None:
        keys = Keys(file)
        file.write_text("third-key")
        clock.time.return_value = file.stat().st_ctime + module.SETTLE_SECONDS
        assert self.look(keys, clock) == (False, True)

    def test_another_key_of_the_same_size_and_time_is_seen(self, file: Path, clock: MagicMock) -> None:
        file.write_text("first-key")
        keys, before = Keys(file), file.stat()
        file.write_text("third-key")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.look(keys, clock)
        assert self.look(keys, clock) == (False, True)

    @pytest.mark.parametrize("content", [b"\xff\xfek\0e\0y\0", b"k\0e\0y\0", b"x" * (module.MAX_BYTES + 1)])
    def test_a_file_that_becomes_unusable_leaves_the_keys_of_before_and_is_logged_once(
        self, file: Path, clock: MagicMock, caplog: pytest.LogCaptureFixture, content: bytes
    ) -> None:
        keys = Keys(file)
        file.write_bytes(content)
        for _ in range(3):
            assert self.look(keys, clock) == (True, False)
        assert len([message for message in caplog.messages if message.endswith("; the keys of before stay.")]) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first-key\r\nsecond-key\r\n", "utf-8-sig", newline="")
    keys = Keys(tmp_path / "keys")
    for key in (b"first-key", b"second-key"):
        keys.check({b"x-api-key": key})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_at_the_start_is_an_error_that_says_so(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "keys").write_text("first-key\n", encoding)
    with pytest.raises(CannotStart, match=r"keys holds zero bytes or is UTF-16 \(save it as UTF-8\): set VAE_API"):
        Keys(tmp_path / "keys")


def test_a_file_that_is_no_list_of_keys_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "keys").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CannotStart, match="is larger than 1048576 bytes"):
        Keys(tmp_path / "keys")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(CannotStart, match="holds no key"):
        Keys(tmp_path / "keys")


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
