from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service import supervisor
from service.supervisor import LOOK_SECONDS, START_SECONDS, Supervisor, Worker

STALL = 5


@pytest.fixture
def config() -> uvicorn.Config:
    return uvicorn.Config("nothing:app", workers=2, timeout_worker_healthcheck=STALL, log_config=None)


def looks(seconds: float) -> int:
    return int(seconds / LOOK_SECONDS)


def test_a_worker_that_starts_is_given_more_time_than_one_that_serves(config: uvicorn.Config) -> None:
    worker = Worker(config, [])
    for _ in range(looks(START_SECONDS) + 1):  # the first look only asks
        worker.look()
    assert not worker.hangs
    worker.look()
    assert bool(worker.hangs)


def test_a_worker_that_serves_and_does_not_answer_hangs(config: uvicorn.Config) -> None:
    worker = Worker(config, [])
    worker._server = MagicMock(started=True)
    for _ in range(2 * looks(STALL)):
        worker.look()
        worker.pong()
    assert worker.serves
    assert not worker.hangs
    for _ in range(looks(STALL) + 3):
        worker.look()
    assert bool(worker.hangs)


class FakeWorker(MagicMock):
    """A worker of which a test says what became of it."""

    failures = 0
    serves = False
    due: float | None = None
    hangs = False
    exitcode: int | None = None

    def ends(self, status: int) -> None:
        """End with this exit status."""
        self.exitcode = status
        self.process.is_alive.return_value = False


class Nursery:
    """A supervisor with fake workers, and a clock that only a test moves on."""

    def __init__(self, config: uvicorn.Config, folder: Path, clock: MagicMock) -> None:
        self.clock = clock
        self.supervisor = Supervisor(config, [], folder, pause=0)
        self.supervisor.init_processes()

    @property
    def workers(self) -> list[FakeWorker]:
        return self.supervisor.processes  # type: ignore[return-value]

    def look(self, seconds: float = 0.0) -> None:
        """Let so many seconds pass, and look at all workers."""
        self.clock.monotonic.return_value += seconds
        self.supervisor.keep_subprocess_alive()


@pytest.fixture
def nursery(config: uvicorn.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nursery:
    clock = MagicMock()
    clock.monotonic.return_value = 0.0
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.signal.signal", MagicMock())
    monkeypatch.setattr(supervisor, "time", clock)
    monkeypatch.setattr(supervisor, "Worker", lambda _config, _sockets, failures: FakeWorker(failures=failures))
    return Nursery(config, tmp_path, clock)


def test_a_first_start_that_fails_stops_the_whole(nursery: Nursery) -> None:
    nursery.workers[1].ends(STARTUP_FAILURE)
    nursery.look()
    assert nursery.supervisor.failed
    assert nursery.supervisor.should_exit.is_set()


def test_a_successor_that_fails_is_tried_again_with_growing_pauses(nursery: Nursery) -> None:
    for worker in nursery.workers:
        worker.serves = True
    nursery.look()
    nursery.workers[0].ends(-9)
    nursery.look()  # its successor is started at once
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        failed = nursery.workers[0]
        failed.ends(STARTUP_FAILURE)
        nursery.look()
        nursery.look(pause - 0.5)
        assert nursery.workers[0] is failed
        nursery.look(0.5)
        assert nursery.workers[0] is not failed
    assert not nursery.supervisor.should_exit.is_set()
    nursery.workers[0].serves = True
    nursery.look()
    nursery.workers[0].ends(1)
    nursery.look()
    assert nursery.workers[0].failures == 0


def test_without_others_the_pauses_are_short(nursery: Nursery) -> None:
    for worker in nursery.workers:
        worker.serves = True
    nursery.look()
    for worker in nursery.workers:
        worker.ends(-9)
    nursery.look()
    for _ in range(10):
        for worker in nursery.workers:
            worker.ends(STARTUP_FAILURE)
        nursery.look()
        nursery.look(supervisor.MAX_PAUSE_ALONE)
        assert all(worker.exitcode is None for worker in nursery.workers)
    assert not nursery.supervisor.failed
