"""How long a run takes, by its rows. It decides what runs on the event loop, and how many rows share a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Runs of up to this many seconds are done on the event loop. In a thread they would take longer, because of the way
# there and back.
INLINE_SECONDS: Final = 1e-3

# Requests share runs of up to this many seconds. Rows of a slow model gain nothing from more neighbours: each would
# wait for all of them, also a request that arrives in the meantime or has little time left.
SHARED_SECONDS: Final = 0.05

_MANY: Final = 64
_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a run of one row, and of each further row."""

    first: float
    further: float

    @classmethod
    def measure(cls, run: Callable[[int], object]) -> Pace:
        """The pace of `run`, which takes a number of rows: 1 and 64, each the fastest of three runs, or a slow one."""
        one, many = (_fastest(run, rows) for rows in (1, _MANY))
        return cls(one, max(many - one, many / _MANY / 2) / (_MANY - 1))

    def rows_within(self, seconds: float) -> int:
        """The most rows that a run of so many seconds has; 0 where one row takes longer."""
        if self.first > seconds:
            return 0
        return 1 + int((seconds - self.first) / self.further)

    def __add__(self, other: Pace) -> Pace:
        """The pace of one run after the other."""
        return Pace(self.first + other.first, self.further + other.further)


# The pace of runs that are so short that they need no bound.
INSTANT: Final = Pace(0.0, 1e-9)


@dataclass(frozen=True, slots=True)
class Paces:
    """How long the parts of a model take. An encoder that refines its posteriors is far slower than its decoder."""

    encode: Pace = INSTANT
    decode: Pace = INSTANT
    typicality: Pace = INSTANT


def _fastest(run: Callable[[int], object], rows: int) -> float:
    """Of so many rows. A slow run is measured well enough by itself, and a start should not take long."""
    taken = _seconds(run, rows)
    if taken > SHARED_SECONDS:
        return taken
    return min(taken, *(_seconds(run, rows) for _ in range(_RUNS - 1)))


def _seconds(run: Callable[[int], object], rows: int) -> float:
    began = time.perf_counter()
    run(rows)
    return time.perf_counter() - began


# The paces of an engine whose runs are all that short.
UNBOUNDED: Final = Paces()
