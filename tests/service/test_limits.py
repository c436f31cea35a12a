from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from service import limits
from service.limits import LEAST_BYTES, MOST_BYTES, Memory

MB = 10**6


@pytest.mark.parametrize(
    ("files", "source", "allows"),
    [
        ({}, "the machine", 8 * 2**30),
        ({"memory.max": "max\n"}, "the machine", 8 * 2**30),
        ({"memory.max": "536870912\n"}, "the cgroup", 2**29),
        ({"memory.max": "99999999999999\n"}, "the machine", 8 * 2**30),
        ({"memory/memory.limit_in_bytes": "268435456\n"}, "the cgroup", 2**28),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "the machine", 8 * 2**30),
    ],
)
def test_the_memory_is_that_of_the_cgroup_or_of_the_machine(
    tmp_path: Path, files: dict[str, str], source: str, allows: int
) -> None:
    process = {"proc/meminfo": "MemTotal: 8388608 kB\n", "proc/self/status": "Name: x\nVmRSS:\t  131072 kB\n"}
    for name, text in (files | process).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limits.memory(tmp_path, tmp_path / "proc") == Memory(source, allows, 2**27)


def test_freed_pieces_between_others_are_given_back() -> None:
    pieces = [bytes([index]) * 100_000 for index in range(200)]
    kept = pieces[::10]
    del pieces
    before = limits.memory().taken
    limits.trim()
    assert limits.memory().taken < before - 10 * MB
    assert len(kept) == 20


def test_this_process_has_some() -> None:
    memory = limits.memory()
    assert 0 < memory.taken < memory.allows


@pytest.mark.parametrize(
    ("allows", "workers", "runs", "left"),
    [
        (600 * MB, 1, 0, 400 * MB),
        (600 * MB, 1, 200 * MB, 300 * MB),
        (1200 * MB, 2, 0, 400 * MB),
        (64_000 * MB, 1, 0, MOST_BYTES),
        (128 * MB, 1, 0, LEAST_BYTES),
    ],
)
def test_requests_get_what_the_process_leaves(allows: int, workers: int, runs: int, left: int) -> None:
    assert Memory("the cgroup", allows, 100 * MB).for_requests(workers, runs) == left


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "connections", "raised"),
    [
        (2**20, 2**20, 4096, 4096, 2**20),
        (1024, 2**20, 4096, 4096, 4096 + 20 + 128),
        (1024, 1024, 4096, 1024 - 20 - 128, 1024),
        (64, 64, 4096, 64 - 20 - 32, 64),
        (16, 16, 4096, 1, 16),
        (64, 64, 4, 4, 64),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 4096, 4096, resource.RLIM_INFINITY),
        (1024, resource.RLIM_INFINITY, 4096, 4096, 4096 + 20 + 128),
    ],
)
def test_connections_fit_into_the_limit_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, connections: int, raised: int
) -> None:
    now = [soft]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (now[0], hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: now.__setitem__(0, both[0]))
    monkeypatch.setattr(os, "listdir", lambda _: ["fd"] * 20)
    assert limits.connections(wanted) == (connections, raised)
    assert now == [raised]
