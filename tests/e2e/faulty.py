"""The service, with a runtime that can be made to fail while it runs: `python -m tests.e2e.faulty`.

Each onnxruntime run first reads the file that FAULT names: "raise" raises, "nan" returns numbers that are none, "hang"
waits until the file says something else; anything else, or no file, lets the run be. A run that holds the image GUILTY
(every pixel of that grey level) raises by itself, whatever the file says.

With OFF_LOOP in the environment every run leaves the event loop. Nothing then watches the loop, so that a busy machine
cannot be taken for a loop that hangs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from service import lifecycle
from service.__main__ import main
from service.inference import batcher, engine, sessions

GUILTY: Final = 201

_open_session = sessions.open_session


def fault() -> str:
    """What the file says now."""
    try:
        return Path(os.environ["FAULT"]).read_text()
    except FileNotFoundError:
        return ""


class FaultySession:
    """An onnxruntime session that does what the file says."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._session = _open_session(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        """As the session's own, if nothing is to go wrong."""
        (rows,) = feed.values()
        while fault() == "hang":
            time.sleep(0.01)
        if fault() == "raise" or (rows.dtype == np.uint8 and (rows == GUILTY).all(axis=(1, 2)).any()):
            raise RuntimeError("a fault was injected")
        results = self._session.run(outputs, feed)
        if fault() == "nan":
            return [np.full_like(result, np.nan) if result.dtype == np.float32 else result for result in results]
        return results


async def unwatched(stall_seconds: int) -> None:
    """Let the event loop stand still."""


if __name__ == "__main__":
    setattr(engine, "open_session", FaultySession)  # noqa: B010
    if "OFF_LOOP" in os.environ:
        setattr(batcher, "INLINE_SECONDS", 0.0)  # noqa: B010
        lifecycle.end_if_stuck = unwatched
    main()
