"""How much memory some work takes at its peak, and how much was reserved for it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

from harness.servers import memory_of


class Meter:
    """Reserves everything, and notes how much there was of it."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


def peak_of(work: Callable[[], object]) -> int:
    """By how many bytes this process grows while it works, at its peak."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_of(os.getpid())
    work()
    return memory_of(os.getpid(), "VmHWM") - before
