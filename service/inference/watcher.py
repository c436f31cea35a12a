"""What goes on beside the requests: following the models folder, and ending a process that is stuck or left alone."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import multiprocessing
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.inference.registry import Registry

log = logging.getLogger(__name__)


async def follow(registry: Registry, seconds: float) -> None:
    """Look at the models folder every so many seconds, and refresh the registry when it has changed; until cancelled.

    A look is some calls of stat, so it costs next to nothing, misses nothing, and works on every file system. A change
    is taken up when two looks have found the same: a bundle that is being copied is let be until it is whole.
    """
    loop = asyncio.get_running_loop()
    before = registry.opened
    with ThreadPoolExecutor(1, "models") as thread:
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await loop.run_in_executor(thread, registry.look)
                if found == before and found != registry.opened:
                    await loop.run_in_executor(thread, registry.refresh)
                before = found
            except Exception:
                log.exception("Following the models folder failed; trying again.")


async def guard(stall_seconds: int) -> None:
    """End the process, with every thread's stack on standard error, if the event loop does not turn for so long.

    A process that can do nothing, not even say so, is better started again by whoever looks after it.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(stall_seconds, exit=True)
            await asyncio.sleep(min(1.0, stall_seconds / 4))
    finally:
        faulthandler.cancel_dump_traceback_later()


def leave_with_parent(folder: Path | None) -> None:
    """Have a worker asked to stop, as by SIGTERM, once its supervisor is gone; in another process do nothing.

    A supervisor that is killed can tell its workers nothing. They would go on holding the port, with nobody to start
    them again or to stop them. Nor can it remove the folder that it made for them.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def leave() -> None:
        loop.remove_reader(parent.sentinel)
        log.warning("The supervisor is gone; this worker stops, too.")
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, leave)
