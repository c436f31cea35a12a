"""How the service logs: one line an event on standard error, and never a payload."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """Send every logger's lines, uvicorn's too, to standard error from `level` ("debug" ... "error") up."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
