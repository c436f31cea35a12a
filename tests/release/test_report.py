from __future__ import annotations

import re

import pytest

from harness.paths import ROOT
from release.__main__ import report
from release.checks import CHECKS, CONTRACT_TESTS, Failed, Skipped


def fails() -> str:
    raise Failed("2 files are changed")


def skips() -> str:
    raise Skipped("no engine answers")


def breaks() -> str:
    raise FileNotFoundError("no wheel")


def test_a_check_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        report({"the tree": fails, "the wheels": breaks, "the image": skips, "the client": lambda: "20 latents"}) == 1
    )
    lines = [re.sub(r" +[\d.]+ s  ", " ", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "FAIL the tree: 2 files are changed",
        "FAIL the wheels: FileNotFoundError: no wheel",
        "skip the image: no engine answers",
        "ok the client: 20 latents",
        "It cannot be released: 1 passed, 2 failed, 1 skipped.",
    ]


def test_what_is_skipped_does_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"the image": skips, "the client": lambda: "20 latents"}) == 0
    assert "It can be released: 1 passed, 0 failed, 1 skipped." in capsys.readouterr().out


def test_the_contract_tests_are_there() -> None:
    assert all((ROOT / path).exists() for path in CONTRACT_TESTS)


def test_the_document_has_every_check() -> None:
    table = (ROOT / "docs" / "release.md").read_text().split("| check | fails when |\n|---|---|\n")[1].split("\n\n")[0]
    assert [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()] == list(CHECKS)
