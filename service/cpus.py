"""The number of CPUs that this process may use. In a container this may be less than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The minimum of the machine's CPUs, the process's affinity and its cgroup's quota (version 2 or 1); at least 1.

    A quota of one and a half CPUs counts as two: with two threads, one sometimes waits; with one thread, half a CPU
    would always be unused.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return os.cpu_count() or 1
    unlimited = not quota.isdigit()  # "max" in version 2, -1 in version 1
    return (os.cpu_count() or 1) if unlimited else math.ceil(int(quota) / int(period))
