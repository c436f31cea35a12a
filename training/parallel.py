"""Work for all CPUs: a function over many items, in threads.

NumPy, PyTorch and onnxruntime release Python's lock while they compute, so threads are enough. Each thread computes
with one thread of its own: small products gain nothing from more, and more threads than CPUs wait for each other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `function`, in the order of the items. The first error is raised, and no new item is begun.

    Items are taken one after another in this thread, a few ahead of the results. So a generator may draw random numbers
    in a fixed order, and it never holds many items.
    """
    count = cpus()
    with one_thread(), ThreadPoolExecutor(count, initializer=_one_thread_of_pool) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which this thread computes with one thread, as those of `ordered` do.

    On a busy machine several threads of one product wait for the slowest, which can take many times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _one_thread_of_pool() -> None:
    """Set one thread for PyTorch and OpenMP, which each thread of the pool has to do for itself."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")
