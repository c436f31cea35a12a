"""How a process ends: signals, the order of a drain, and two watchdogs.

SIGINT or SIGTERM: /readyz turns 503 at once, the port closes after a pause, requests in flight are finished, and the
exit status is 0. A process whose event loop is stuck ends itself, and so does a worker whose supervisor is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import logging
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

log = logging.getLogger(__name__)


# What glibc's mallopt calls the size from which on a block is the system's own, and how much free memory it keeps.
_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1
_LARGE_BYTES: Final = 4 * 2**20  # more than the arrays of any batch of digits have


def give_large_blocks_back() -> None:
    """Have the C library give the memory of a large picture back to the system when the picture is done with.

    Left to itself, glibc comes to keep freed blocks of up to 32 MiB, and does so for each thread: after large pictures
    hundreds of megabytes stay. Another C library is left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BYTES)


class Server(uvicorn.Server):
    """uvicorn's server, which exits with status 0 after a signal.

    uvicorn raises the signal again when it has shut down, so a process that stopped in good order looks killed.
    """

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle SIGINT and SIGTERM from here to the end of the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


@contextmanager
def drain_on_signals(start_draining: Callable[[], bool], pause: float) -> Iterator[None]:
    """On SIGINT and SIGTERM call `start_draining`, and only `pause` seconds later what the signal did before.

    `start_draining` returns whether the process was draining already: a second signal does not wait for the pause.
    Does nothing outside of the main thread, which alone may handle signals.
    """
    replaced: dict[int, Any] = {}
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        if start_draining() or not pause:
            replaced[number](number, frame)
        else:
            log.info("Draining: not ready from now on; the port closes in %g s.", pause)
            loop.call_soon_threadsafe(loop.call_later, pause, replaced[number], number, None)

    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        replaced.update({number: handler for number, handler in handlers.items() if callable(handler)})
    for number in replaced:
        signal.signal(number, drain)
    yield
    for number, handler in replaced.items():
        signal.signal(number, handler)


async def end_if_stuck(stall_seconds: int) -> None:
    """End the process, with every thread's stack on standard error, when the event loop does not turn for so long.

    Such a process cannot even say that it is ill; whatever supervises it can start it again. Runs until cancelled.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(stall_seconds, exit=True)
            await asyncio.sleep(min(1.0, stall_seconds / 4))
    finally:
        faulthandler.cancel_dump_traceback_later()


def stop_with_supervisor(folder: Path | None) -> None:
    """Have a worker stop, as by SIGTERM, when its supervisor is gone; in another process do nothing.

    A supervisor that is killed cannot tell its workers. They would hold the port with nobody to restart or stop them.
    Nor can it remove `folder`, which it made for them.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        log.warning("The supervisor is gone; this worker stops, too.")
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)
