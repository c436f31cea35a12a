"""Real servers, each in a thread of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.service.api.in_bytes import running


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server with default settings."""
    with running() as port:
        yield port


@pytest.fixture
def start_server() -> Iterator[Callable[..., int]]:
    """Start servers with settings of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))
