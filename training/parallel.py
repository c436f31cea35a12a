"""Work for all CPUs: a function over many items, in threads.

NumPy, PyTorch and onnxruntime release Python's lock while they compute, so threads are enough. Each thread computes
with one thread of its own: small products gain nothing from more, and more threads than CPUs wait for each other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    before = torch.get_num_threads()
    with threadpool_limits(1), ThreadPoolExecutor(count, initializer=_one_thread) as pool:
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
            torch.set_num_threads(before)


def _one_thread() -> None:
    """Of this thread of the pool: PyTorch and OpenMP, whose number of threads is each thread's own."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")
