"""Programs of others that a test needs: where one is missing the test is skipped, unless the environment forbids it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from harness.balancers import program


def tool(name: str, demanded_by: str) -> str:
    """The path of an installed program. `demanded_by`: the variable that makes its absence a failure, set to 1."""
    path = program(name)
    if path is None:
        missing(f"{name} is not installed", demanded_by)
    return path


def missing(reason: str, demanded_by: str) -> NoReturn:
    """Skip the test, or fail it where what is missing was demanded."""
    if os.environ.get(demanded_by) == "1":
        pytest.fail(f"{reason}, and {demanded_by}=1 demands it")
    pytest.skip(f"{reason}; {demanded_by}=1 makes this a failure")
