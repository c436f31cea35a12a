from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from service.telemetry import agreement
from service.telemetry.cells import shared_directory
from service.telemetry.metrics import Metrics
from tests.service.telemetry.samples import scrape, sources, value


@pytest.fixture
def directory() -> Iterator[Path]:
    with shared_directory() as directory:
        yield directory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The clocks of the agreement and of the heartbeats. Only a test moves them on."""
    clock = MagicMock()
    clock.monotonic.return_value = clock.time.return_value = clock.process_time.return_value = 0.0
    monkeypatch.setattr("service.telemetry.agreement.time", clock)
    monkeypatch.setattr("service.telemetry.metrics.time", clock)
    return clock


def worker(directory: Path, number: int) -> Metrics:
    """A worker with this number for all that it serves."""
    metrics = Metrics(directory, agree_seconds=5.0)
    metrics.watch(sources(models_hash=lambda: number))
    return metrics


def test_a_difference_counts_when_it_lasts(directory: Path, clock: MagicMock, caplog: pytest.LogCaptureFixture) -> None:
    first, second = worker(directory, 1), worker(directory, 2)
    for seconds, said in ((0.0, None), (4.9, None), (5.0, "Worker 0 and others (1) serve different models")):
        clock.monotonic.return_value = seconds
        first.agreement.look(1)
        assert (first.agreement.sentence or "None").startswith(str(said))
    assert value(scrape(first), "vae_workers_agree", worker=0) == 0
    assert value(scrape(first), "vae_workers_agree", worker=1) == 1  # it has not looked yet
    first.agreement.look(2)
    assert first.agreement.sentence is None
    assert value(scrape(first), "vae_workers_agree", worker=0) == 1
    assert len(caplog.records) == 1  # that they agree again is no warning
    del second


def test_a_worker_that_is_dead_or_hangs_does_not_count(directory: Path, clock: MagicMock) -> None:
    first, second = worker(directory, 1), worker(directory, 2)
    first.agreement.seconds = 0.0
    first.agreement.look(1)
    assert list(first.agreement.differing) == [1]
    clock.time.return_value = agreement.ALIVE_SECONDS
    first.agreement.look(1)
    assert list(first.agreement.differing) == []
    del second


def test_a_worker_that_has_opened_nothing_yet_does_not_count(directory: Path, clock: MagicMock) -> None:
    first = worker(directory, 1)
    starting = Metrics(directory)
    first.agreement.seconds = 0.0
    first.agreement.look(1)
    assert list(first.agreement.differing) == []
    del starting


def test_one_worker_agrees_with_itself() -> None:
    metrics = Metrics()
    metrics.watch(sources())
    metrics.agreement.look(1)
    assert value(scrape(metrics), "vae_workers_agree", worker=0) == 1


def test_what_cannot_be_read_changes_nothing(
    directory: Path, clock: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = worker(directory, 1), worker(directory, 2)
    first.agreement.seconds = 0.0
    first.agreement.look(1)
    monkeypatch.setattr(Path, "open", MagicMock(side_effect=OSError(24, "Too many open files")))
    first.agreement.look(1)
    assert first.agreement.differing == (1,)
    del second
