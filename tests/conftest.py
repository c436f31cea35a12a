"""What every test leaves as it found it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest


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
