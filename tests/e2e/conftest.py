"""Real servers: `python -m service`, each in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.servers import Server, running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of the test's own, and wait until they are ready."""
    with contextlib.ExitStack() as stack:
        logs = (tmp_path / f"server-{number}.log" for number in range(100))
        yield lambda module="service", **settings: stack.enter_context(running(next(logs), module, **settings))
