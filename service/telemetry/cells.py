"""Counters that survive the process that counts: float64 cells, found by keys, in memory that the workers share.

Each worker owns one file of a directory, mapped into its memory. To count is to store eight bytes, without a lock or a
system call. Values stored by a worker remain when it is killed. The owner of a file holds a lock on it, which the
kernel releases when the process ends, for whatever reason. So a reader can see which workers are alive. A new worker
takes over a file without an owner and continues its counters, so there are never more files than workers at one time.
Without a directory, the cells are private memory of the process, and everything else is the same.

A file has `SIZE` bytes, zero at first. Cell 0 holds the number of cells after it that are in use. They hold one entry
after the other: the length of the key in bytes, the number of the key's cells, the key, padded to whole cells, and the
cells. An entry is complete before cell 0 includes it, and it never moves. Only one thread of the owner writes.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

SIZE: Final = 256 * 1024
_CELL: Final = 8

# In memory, not on a disk: the kernel writes files on a disk back from time to time, and a store may have to wait for
# it. Containers have this folder even if their root file system is read-only.
_SHARED: Final = Path("/dev/shm")  # noqa: S108


@contextmanager
def shared_directory() -> Iterator[Path]:
    """A temporary folder for the workers' files. The supervisor creates it before it starts them.

    Raises OSError when it cannot be created.
    """
    place = _SHARED if os.access(_SHARED, os.W_OK | os.X_OK) else None
    with TemporaryDirectory(prefix="vae-metrics-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of one file: its number, whether its worker is alive, and the cells by key."""

    worker: int
    living: bool
    cells: dict[str, list[float]]


class Cells:
    """The cells of one process. `values` is the array of all of them."""

    def __init__(self, directory: Path | None) -> None:
        """Take over a file without an owner in `directory`, or create one. Raises OSError when there is no space."""
        self._directory = directory
        self.worker = 0
        if directory is None:
            self._memory = mmap.mmap(-1, SIZE)
        else:
            self.worker, file = _claim(directory)
            with file:
                self._memory = mmap.mmap(file.fileno(), SIZE)  # duplicates the descriptor, and so keeps the lock
        self.values = memoryview(self._memory).cast("d")
        self._first = {key: first for key, first, _ in _entries(self._memory)}

    def first(self, key: str, cells: int, *, reserve: int = 0) -> int | None:
        """The index of the first of the `cells` cells of `key`. New cells are zero.

        None when there is no room for them, or when less than `reserve` bytes would remain free.
        """
        known = self._first.get(key)
        if known is not None:
            return known
        name = key.encode()
        used = int(self.values[0])
        at = 1 + used
        first = at + 2 + -(-len(name) // _CELL)
        if (first + cells) * _CELL + reserve > SIZE:
            return None
        self._memory[(at + 2) * _CELL : (at + 2) * _CELL + len(name)] = name
        self.values[at] = len(name)
        self.values[at + 1] = cells
        self.values[0] = first + cells - 1
        self._first[key] = first
        return first

    def items(self) -> Iterator[tuple[str, int]]:
        """Every key and the index of its first cell."""
        yield from self._first.items()

    def others(self, keys: Sequence[str]) -> dict[int, tuple[float, ...]]:
        """The first cell of each key in the files of the other workers, living or not; NaN where there is none.

        This is far cheaper than `snapshots` if the keys are among the first, and takes no lock.
        """
        found = {}
        for path in self._directory.glob("*.cells") if self._directory else ():
            worker = int(path.stem)
            if worker != self.worker:
                with path.open("rb") as file:
                    if file.seek(0, 2) == SIZE:
                        with mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ) as memory:
                            found[worker] = _first_cells(memory, keys)
        return found

    def snapshots(self) -> list[Snapshot]:
        """The content of the files of all workers, including this one, ordered by number."""
        found = [Snapshot(self.worker, True, _read(self._memory))]
        for path in self._directory.glob("*.cells") if self._directory else ():
            worker = int(path.stem)
            if worker != self.worker:
                with path.open("rb") as file:
                    living = _is_locked(file)
                    if file.seek(0, 2) == SIZE:  # otherwise its worker is still creating it
                        with mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ) as memory:
                            found.append(Snapshot(worker, living, _read(memory)))
        return sorted(found, key=lambda snapshot: snapshot.worker)


def _claim(directory: Path) -> tuple[int, BinaryIO]:
    """The first file without an owner, now locked by this process, and of full size."""
    for worker in count():
        file = (directory / f"{worker}.cells").open("a+b")
        if _is_locked(file, fcntl.LOCK_EX):
            file.close()
            continue
        if file.seek(0, 2) != SIZE:
            file.truncate(0)
            file.write(bytes(SIZE))  # not a sparse file: a store into a hole raises SIGBUS when memory is short
            file.flush()
        return worker, file
    raise AssertionError  # the loop does not end


def _is_locked(file: BinaryIO, lock: int = fcntl.LOCK_SH) -> bool:
    """Whether another process holds the lock of the file. If not, this process holds it until the file is closed.

    A reader holds the lock of a dead worker's file for some microseconds. A worker that starts then takes the next
    number.
    """
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(memory: mmap.mmap) -> dict[str, list[float]]:
    with memoryview(memory) as octets, octets.cast("d") as values:
        return {key: [values[index] for index in range(first, first + cells)] for key, first, cells in _entries(memory)}


def _first_cells(memory: mmap.mmap, keys: Sequence[str]) -> tuple[float, ...]:
    with memoryview(memory) as octets, octets.cast("d") as values:
        found: dict[str, float] = {}
        for key, first, _ in _entries(memory):
            if key in keys:
                found[key] = values[first]
                if len(found) == len(keys):
                    break
        return tuple(found.get(key, math.nan) for key in keys)


def _entries(memory: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """The key of each entry, the index of its first cell, and the number of its cells."""
    with memoryview(memory) as octets, octets.cast("d") as values:
        at, end = 1, 1 + int(values[0])
        while at < end:
            length, cells = int(values[at]), int(values[at + 1])
            first = at + 2 + -(-length // _CELL)
            yield memory[(at + 2) * _CELL : (at + 2) * _CELL + length].decode(), first, cells
            at = first + cells
