"""Follow the models folder, and refresh the registry when a bundle comes, changes or goes."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from service.inference.registry import Registry

log = logging.getLogger(__name__)


async def follow(registry: Registry, seconds: float) -> None:
    """Look at the models folder every `seconds` and refresh the registry after a change. Runs until cancelled.

    A look is a few calls of stat, so it is cheap, misses nothing, and works on every file system. A change is served
    when two looks in a row have found the same, so a bundle that is still being copied is left alone.
    """
    loop = asyncio.get_running_loop()
    before = registry.seen
    failure = None
    with ThreadPoolExecutor(1, "models") as thread:
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await loop.run_in_executor(thread, registry.look)
                if found == before and (found != registry.seen or registry.due):
                    await loop.run_in_executor(thread, registry.refresh, found)
                before, failure = found, None
            except Exception as error:
                if repr(error) != failure:  # once, not at every look
                    log.exception("Following the models folder failed; trying again.")
                failure = repr(error)
