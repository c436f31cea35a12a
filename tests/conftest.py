"""In which order tests run, and what every test leaves as it found it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from harness.paths import TESTS

# What takes longest comes first, so that no process of `make test` is left with a long file at the end.
SLOW = ("browser", "hostile", "e2e", "client", "documents", "fuzz", "training")


def pytest_xdist_auto_num_workers() -> int:
    """A process for each core and one more: tests of real servers wait for a part of their time."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rooms = {room: rank for rank, room in enumerate(SLOW)}
    items.sort(key=lambda item: rooms.get(item.path.relative_to(TESTS).parts[0], len(SLOW)))


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what lasts: tests that collect took most of their time for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def processor_state() -> Iterator[None]:
    """Have this thread's processor compute with denormal numbers again: training switches that off for its thread."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, as in a terminal. A shell has it ignored by what it starts with `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections: bound, and never listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/"
