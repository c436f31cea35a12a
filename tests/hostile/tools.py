"""Programs of others that a test needs: where one is missing the test is skipped, unless the environment forbids it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def tool(name: str, demanded_by: str) -> str:
    """The path of an installed program. `demanded_by`: the variable that makes its absence a failure, set to 1."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        missing(f"{name} is not installed", demanded_by)
    return path


def missing(reason: str, demanded_by: str) -> NoReturn:
    """Skip the test, or fail it where what is missing was demanded."""
    if os.environ.get(demanded_by) == "1":
        pytest.fail(f"{reason}, and {demanded_by}=1 demands it")
    pytest.skip(f"{reason}; {demanded_by}=1 makes this a failure")
