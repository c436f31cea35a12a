"""What Python itself reports: warnings and uncaught exceptions. Each test has a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from harness.paths import ROOT

START = """
import os, sys, threading, warnings
from service.telemetry import logs
logs.configure("info", os.environ["FORM"])
logs.log_what_python_reports()
"""

TWO_PLACES = """
for number in range(100):
    warnings.warn(f"odd picture {number}\\n with a line of its own")
warnings.warn("elsewhere")
"""


def run(code: str, *options: str, form: str = "json") -> tuple[int, str]:
    """Exit status and standard error of a process that logs what Python reports."""
    ended = subprocess.run(
        [sys.executable, *options, "-c", START + code], cwd=ROOT, env={"FORM": form}, capture_output=True, text=True
    )
    return ended.returncode, ended.stderr


def lines(code: str, *options: str) -> list[dict[str, Any]]:
    """The same, as lines of JSON, without their times."""
    _, printed = run(code, *options)
    found = [json.loads(line) for line in printed.splitlines()]
    for line in found:
        del line["time"]
    return found


def test_a_warning_is_one_line_for_each_place_in_the_code_whatever_its_text() -> None:
    first, second = lines(TWO_PLACES)
    assert first == {
        "level": "warning",
        "logger": "py.warnings",
        "message": "UserWarning: odd picture 0\n with a line of its own (<string>:8)",
    }
    assert second["message"] == "UserWarning: elsewhere (<string>:9)"


def test_a_warning_in_text_is_one_line_too() -> None:
    _, printed = run(TWO_PLACES, form="text")
    first, second = printed.splitlines()
    assert first.endswith(r"WARNING py.warnings: UserWarning: odd picture 0\n with a line of its own (<string>:8)")
    assert second.endswith("UserWarning: elsewhere (<string>:9)")


def test_texts_of_warnings_do_not_pile_up_in_memory() -> None:
    status, _ = run(TWO_PLACES + 'sys.exit(len(globals().get("__warningregistry__", {})) > 2)')
    assert status == 0


def test_warnings_for_developers_are_not_logged() -> None:
    assert lines('warnings.warn_explicit("old", DeprecationWarning, "library.py", 1, module="library")') == []


@pytest.mark.parametrize(("option", "count"), [("ignore", 0), ("always", 2)])
def test_the_option_w_of_python_has_precedence(option: str, count: int) -> None:
    assert len(lines(TWO_PLACES, "-W", option)) == count


def test_an_uncaught_exception_is_one_line_and_the_status_is_1() -> None:
    status, printed = run('raise ZeroDivisionError("so sad")')
    (line,) = printed.splitlines()
    fields = json.loads(line)
    assert status == 1
    assert (fields["level"], fields["message"]) == ("critical", "Not caught: ZeroDivisionError: so sad")
    assert fields["exception"].startswith("Traceback")


@pytest.mark.parametrize(
    "code",
    [
        "thread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
        "class Odd:\n    def __del__(self):\n        1 / 0\nOdd()",
        "import asyncio\nasync def main():\n    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n    "
        "await asyncio.sleep(0)\nasyncio.run(main())",
    ],
    ids=["in a thread", "in a finalizer", "in a callback of the event loop"],
)
def test_an_uncaught_exception_that_does_not_end_the_process_is_one_line(code: str) -> None:
    (line,) = lines(code)
    assert line["level"] in ("critical", "error")
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "threading.Thread(target=sys.exit).start()"])
def test_ctrl_c_and_sys_exit_in_a_thread_are_not_logged(code: str) -> None:
    assert lines(code) == []
