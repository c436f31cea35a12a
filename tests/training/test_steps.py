from __future__ import annotations

import io

import pytest

from training import steps
from training.steps import SILENT, Steps


def test_off_a_terminal_each_step_is_a_line() -> None:
    file = io.StringIO()
    with Steps(file=file) as shown:
        with shown.step("prior", 10) as advance:
            advance(10)
        with shown.step("card"):
            pass
    lines = file.getvalue().splitlines()
    assert [line.partition(": done in ")[0] for line in lines] == ["  prior", "  card"]


def test_a_long_step_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SECONDS_BETWEEN_LINES", 0)
    file = io.StringIO()
    with Steps(file=file) as shown, shown.step("nll", 3_000) as advance:
        advance(1_000)
        advance(500)
    assert file.getvalue().splitlines()[:2] == ["  nll: 1,000 of 3,000", "  nll: 1,500 of 3,000"]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    file = io.StringIO()
    with Steps(file=file) as shown, shown.step("nll", 3_000) as advance:
        advance(1_000)
    told = file.getvalue()
    assert "nll" in told
    assert "3000/3000" in told
    assert "done in" not in told


def test_a_step_that_fails_is_not_done() -> None:
    file = io.StringIO()
    with pytest.raises(ValueError, match="no"), Steps(file=file) as shown, shown.step("prior"):
        raise ValueError("no")
    assert "done" not in file.getvalue()


def test_a_silent_one_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with SILENT.step("prior", 2) as advance:
        advance(1)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
