"""`python -m service`: read the settings, open the models, serve until told to stop.

SIGTERM and SIGINT: /readyz turns 503 at once, requests in flight are finished, the exit status is 0. A second SIGINT
stops without waiting. What is wrong at start-up is one sentence on standard error and exit status 1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from pydantic import ValidationError

from service import logs
from service.api.state import Lifecycle
from service.app import create_app
from service.errors import VaeError
from service.settings import Settings

log = logging.getLogger("service")


class Server(uvicorn.Server):
    """uvicorn's server, but a signal drains it and is then done with.

    uvicorn raises the signal again when it has shut down, so that a process asked to stop in good order seems killed.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle the signals that ask us to stop, from here to the end of the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not ready first; uvicorn then closes the door and finishes what is in flight."""
        self._lifecycle.draining = True
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until a signal. Exits with 1 and one sentence when it cannot start."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "VAE_" + "_".join(map(str, problem["loc"])).upper()
            print(f"{name}={problem['input']}: {problem['msg']}.", file=sys.stderr)
        sys.exit(1)
    logs.configure(settings.log_level)
    for name in sorted(name for name in os.environ if name.startswith("VAE_")):
        if name.removeprefix("VAE_").lower() not in Settings.model_fields:
            log.warning("%s is set, but there is no such setting.", name)
    try:
        app = create_app(settings)
    except VaeError as error:
        log.critical("%s", error)
        sys.exit(1)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    Server(config, app.state.lifecycle).run()


if __name__ == "__main__":
    main()
