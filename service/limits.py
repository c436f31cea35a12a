"""What this process may use of memory and of file descriptors, and what of it requests may have."""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# The most that requests get without a setting. The default limits need no more, and a machine has other users.
MOST_BYTES: Final = 2**30

# The least. With less, even a small picture would be refused.
LEAST_BYTES: Final = 32 * 2**20

# At least this share of a process's memory stays free: for the kernel's socket buffers, runs of models, and fragments.
_FREE_SHARE: Final = 6

# Descriptors that are no connections of clients: files that are read, and connections that are about to be closed.
_SPARE_DESCRIPTORS: Final = 128

# Parameters of glibc's mallopt, and their values in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_BYTES: Final = 16 * 2**20
_MMAP_BYTES: Final = 4 * 2**20  # more than the arrays of any batch of digits have


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: what the `source` (the cgroup or the machine) `allows`, what this process has `taken` already."""

    source: str
    allows: int
    taken: int

    def for_requests(self, workers: int, runs: int) -> int:
        """The bytes that requests may hold in each of so many processes. `runs`: what runs of the models may keep."""
        share = self.allows // workers
        return max(LEAST_BYTES, min(MOST_BYTES, share - max(share // _FREE_SHARE, runs) - self.taken))


def memory(cgroup: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc")) -> Memory:
    """The memory of the machine or of its cgroup (version 2 or 1), whichever is less, and what this process has."""
    machine = _kilobytes(process / "meminfo", "MemTotal:") or 4 * MOST_BYTES
    taken = _kilobytes(process / "self" / "status", "VmRSS:") or 0
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            limit = file.read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < machine:  # "max" in version 2, a huge number in version 1
            return Memory("the cgroup", int(limit), taken)
    return Memory("the machine", machine, taken)


def give_memory_back() -> None:
    """Have what is freed go back to the system at once, in pieces of 4 MB and more.

    By default glibc raises that size up to 32 MB, and keeps 64 MB or more in each of its arenas after a large picture:
    then the bytes that requests hold would say little about the memory of the process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)


def trim() -> None:
    """Give back what has been freed in smaller pieces, too: opening models leaves a third of their size so."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if malloc_trim is not None:
        malloc_trim(0)


def connections(wanted: int) -> tuple[int, int]:
    """How many connections of `wanted` the process's limit of descriptors leaves room for, at least 1; and that limit.

    Raises the soft limit as far as that is needed and the hard limit allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 32  # noqa: PTH208  # strings will do
    needed = wanted + opened + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted, soft
    return max(1, min(wanted, soft - opened - min(_SPARE_DESCRIPTORS, soft // 2))), soft


def _kilobytes(file: Path, name: str) -> int | None:
    """The bytes that a line of such a file gives in kB."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
