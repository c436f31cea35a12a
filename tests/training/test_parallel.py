from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from training import parallel


def test_results_come_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a later item is done first: the first one waits until the second one has begun."""
    monkeypatch.setattr(parallel, "cpus", lambda: 2)
    second = threading.Event()

    def work(item: int) -> int:
        second.wait(60) if item == 0 else second.set()
        return item * item

    assert list(parallel.ordered(work, range(5))) == [0, 1, 4, 9, 16]


def test_items_are_taken_when_there_is_work_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cpus", lambda: 1)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = parallel.ordered(lambda item: item, items())
    assert next(results) == 0
    assert len(taken) < 10
    assert list(results) == list(range(1, 100))


def test_an_error_is_raised_and_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cpus", lambda: 1)
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        list(parallel.ordered(work, range(100)))
    assert len(begun) < 10


def test_each_thread_computes_alone_and_the_caller_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert set(parallel.ordered(lambda _: torch.get_num_threads(), range(4))) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
