from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from service.inference.pace import INSTANT, Pace


@pytest.mark.parametrize(("seconds", "rows"), [(0.5, 0), (1.0, 1), (2.9, 4), (3.1, 5)])
def test_a_run_has_as_many_rows_as_its_time_allows(seconds: float, rows: int) -> None:
    assert Pace(first=1.0, further=0.5).rows_within(seconds) == rows


def test_paces_of_parts_add_up() -> None:
    assert Pace(1.0, 0.5) + Pace(2.0, 0.25) == Pace(3.0, 0.75)


def test_an_instant_run_has_any_rows() -> None:
    assert INSTANT.rows_within(1e-3) >= 100_000


def test_a_pace_is_that_of_the_fastest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MagicMock(return_value=0.0)
    monkeypatch.setattr("service.inference.pace.time", MagicMock(perf_counter=clock))
    delays = iter([5.0, 0.0, 1.0, 0.0, 9.0, 2.0])  # what else the machine does

    def run(rows: int) -> None:
        clock.return_value += 2.0 + 0.5 * (rows - 1) + next(delays)

    monkeypatch.setattr("service.inference.pace.SHARED_SECONDS", 100.0)
    assert Pace.measure(run) == Pace(2.0, 0.5)


def test_a_slow_run_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MagicMock(return_value=0.0)
    monkeypatch.setattr("service.inference.pace.time", MagicMock(perf_counter=clock))
    seen = []

    def run(rows: int) -> None:
        seen.append(rows)
        clock.return_value += 0.001 * rows

    assert Pace.measure(run).first == pytest.approx(0.001)
    assert seen == [1, 1, 1, 64]


def test_a_pace_is_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run of one row may be disturbed each time, and the run of many may not."""
    clock = MagicMock(return_value=0.0)
    monkeypatch.setattr("service.inference.pace.time", MagicMock(perf_counter=clock))

    def run(rows: int) -> None:
        clock.return_value += 9.0 if rows == 1 else 6.4

    assert Pace.measure(run).further > 0
