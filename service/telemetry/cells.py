"""Numbers that outlive the process that counts: float64 cells under keys, in memory that the workers share.

Each worker owns one file of a directory, mapped into its memory: to count is to store eight bytes, with no lock and no
system call, and what a worker had stored when SIGKILL took it is still there. A file's owner holds a lock on it, which
the kernel gives back however the owner ends. So whoever reads knows which workers live, and the next worker to start
takes over an ownerless file and counts on where the dead one stopped: there are no more files than workers that lived
at one time. Without a directory the cells are this process's own memory, and everything else is the same.

A file is `SIZE` bytes, zero at first. Cell 0 says how many cells after it are in use. There lies one entry after
another: the key's length in bytes, the number of its cells, the key, padded to whole cells, and the cells. An entry is
complete before cell 0 counts it, and stays where it is; one thread of the owner writes.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

SIZE: Final = 256 * 1024
_CELL: Final = 8

# Memory rather than a disk: a disk's file is written back now and then, and meanwhile a store into it may have to wait.
# And a container has this place even where its root is read-only.
_SHARED: Final = Path("/dev/shm")  # noqa: S108


@contextmanager
def shared_directory() -> Iterator[Path]:
    """A folder for the workers' files, gone afterwards: what the supervisor makes before it starts them.

    Raises OSError when there is no place for it.
    """
    place = _SHARED if os.access(_SHARED, os.W_OK | os.X_OK) else None
    with TemporaryDirectory(prefix="vae-metrics-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one file holds: its number, whether its worker lives, and the cells by key."""

    worker: int
    living: bool
    cells: dict[str, list[float]]


class Cells:
    """A process's cells; `values` indexes all of them."""

    def __init__(self, directory: Path | None) -> None:
        """Take over an ownerless file of `directory`, or make one. Raises OSError when there is no room for it."""
        self._directory = directory
        self.worker = 0
        if directory is None:
            self._memory = mmap.mmap(-1, SIZE)
        else:
            self.worker, file = _claim(directory)
            with file:
                self._memory = mmap.mmap(file.fileno(), SIZE)  # keeps a descriptor of its own, and with it the lock
        self.values = memoryview(self._memory).cast("d")
        self._first = {key: first for key, first, _ in _entries(self._memory)}

    def first(self, key: str, cells: int, *, reserve: int = 0) -> int | None:
        """The index of the first of the `cells` cells under `key`, zero when new.

        None when there is no room for them, or when there would be less than `reserve` bytes left.
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

    def snapshots(self) -> list[Snapshot]:
        """What all workers' files hold, this process's among them, by number."""
        found = [Snapshot(self.worker, True, _read(self._memory))]
        for path in self._directory.glob("*.cells") if self._directory else ():
            worker = int(path.stem)
            if worker != self.worker:
                with path.open("rb") as file:
                    living = _is_locked(file)
                    if file.seek(0, 2) == SIZE:  # else its worker has just begun to make it
                        with mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ) as memory:
                            found.append(Snapshot(worker, living, _read(memory)))
        return sorted(found, key=lambda snapshot: snapshot.worker)


def _claim(directory: Path) -> tuple[int, BinaryIO]:
    """The first file that nobody holds, locked and of full size."""
    for worker in count():
        file = (directory / f"{worker}.cells").open("a+b")
        if _is_locked(file, fcntl.LOCK_EX):
            file.close()
            continue
        if file.seek(0, 2) != SIZE:
            file.truncate(0)
            file.write(bytes(SIZE))  # not a hole: were memory short later, a store into one would be SIGBUS
            file.flush()
        return worker, file
    raise AssertionError  # there are always more numbers


def _is_locked(file: BinaryIO, lock: int = fcntl.LOCK_SH) -> bool:
    """Whether another holds the file's lock; if not, it is ours until the file is closed.

    A worker that starts while a reader holds a dead one's lock, for some microseconds, takes the next number instead.
    """
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(memory: mmap.mmap) -> dict[str, list[float]]:
    with memoryview(memory) as octets, octets.cast("d") as values:
        return {key: [values[index] for index in range(first, first + cells)] for key, first, cells in _entries(memory)}


def _entries(memory: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Each entry's key, the index of its first cell, and the number of its cells."""
    with memoryview(memory) as octets, octets.cast("d") as values:
        at, end = 1, 1 + int(values[0])
        while at < end:
            length, cells = int(values[at]), int(values[at + 1])
            first = at + 2 + -(-length // _CELL)
            yield memory[(at + 2) * _CELL : (at + 2) * _CELL + length].decode(), first, cells
            at = first + cells
