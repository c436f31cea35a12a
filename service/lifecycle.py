"""How a process ends: signals, the order of a drain, and three watchdogs.

SIGINT, SIGTERM or SIGHUP: /readyz turns 503 at once, the port closes after a pause, requests in flight are finished,
and the exit status is 0. A drain that takes too long is ended by a thread of its own, also with status 0. A process
whose event loop is stuck ends itself, and so does a worker whose supervisor is gone.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import multiprocessing
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds that the end of a drain takes beyond VAE_DRAIN_SECONDS: closing connections, and the end of the lifespan.
END_SECONDS: Final = 2.0

# Turns of the event loop, at most, in which connections that wait at the port are accepted and read.
_LAST_TURNS: Final = 1000


class Server(uvicorn.Server):
    """uvicorn's server, which exits with status 0 after a signal, within the bound, and answers what has arrived.

    uvicorn raises the signal again when it has shut down, so a process that stopped in good order looks killed. It also
    waits without a bound for threads that still run, and resets connections that wait at the port.
    """

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle the signals from here to the end of the process."""
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to shut down; the first time also start the thread that ends a drain which takes too long."""
        if not self.should_exit:
            seconds = (self.config.timeout_graceful_shutdown or 0) + END_SECONDS
            watchdog = threading.Timer(seconds, _end_process)
            watchdog.daemon = True
            watchdog.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept and read what waits at the port, then shut down as uvicorn does."""
        listeners = [listener for server in self.servers for listener in server.sockets]
        for _ in range(_LAST_TURNS):
            if not select.select(listeners, [], [], 0)[0]:
                break
            await asyncio.sleep(0)
        for _ in range(3):  # what was accepted in the last turn is read in the next, and answered in the one after it
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def _end_process() -> None:
    log.error("The drain has taken too long; the process ends without what still runs.")
    logging.shutdown()
    os._exit(0)


@contextmanager
def drain_on_signals(start_draining: Callable[[], bool], pause: float) -> Iterator[None]:
    """On a signal to stop call `start_draining`, and only `pause` seconds later what the signal did before.

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
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
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
