"""Servers in 512 MB with default settings: the whole hostile suite, and twice the capacity, kill none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import SERVER_COMMAND, running, wait_for
from tests.soak import overload

BYTES = 512 * 2**20
OVERLOAD_SECONDS = 20  # memory is as full after a second as after a minute; make soak takes the minute
LIMITED = Path(__file__).with_name("limited.sh")


class Groups:
    """A cgroup, with one below it for each server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = f"{LIMITED} {BYTES} {folder} {sys.executable} -m"

    def servers(self) -> list[Path]:
        """The cgroups of the servers."""
        return [each for each in self.folder.iterdir() if each.is_dir()]

    def killed(self) -> int:
        """How many processes the kernel has killed because their cgroup had no memory left."""
        files = [each / name for each in self.servers() for name in ("memory.events", "memory.oom_control")]
        return sum(int(re.findall(r"^oom_kill (\d+)", file.read_text(), re.M)[0]) for file in files if file.exists())


def is_removed(folder: Path) -> bool:
    """Remove a cgroup, unless it still has a process."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def groups() -> Iterator[Groups]:
    version_1 = Path("/sys/fs/cgroup/memory")
    folder = (version_1 if version_1.is_dir() else version_1.parent) / f"vae-test-{os.getpid()}"
    folder.mkdir()  # fails where the tests may not limit memory: not as root, or in a container without the rights
    if not version_1.is_dir():
        (folder / "cgroup.subtree_control").write_text("+memory")
    found = Groups(folder)
    yield found
    for each in (*found.servers(), folder):
        wait_for(partial(is_removed, each))


def test_the_hostile_suite_passes_and_no_server_is_killed(groups: Groups) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses", "auto", "--dist", "loadfile", "tests/hostile"],
        cwd=ROOT,
        env=os.environ | {SERVER_COMMAND: groups.command},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert len(groups.servers()) > 10
    assert groups.killed() == 0


def test_twice_the_capacity_kills_no_server(groups: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_COMMAND, groups.command)
    with running(tmp_path / "log", models="") as server:
        assert f"the cgroup allows {BYTES // 10**6} MB" in server.log.read_text()
        found = overload.measure(server.port, OVERLOAD_SECONDS)
        assert found.other == 0
        assert found.goodput > 0
        assert server.process.poll() is None
    assert len(groups.servers()) == 1
    assert groups.killed() == 0
