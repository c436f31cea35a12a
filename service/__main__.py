"""`python -m service`: read the settings, open the models, serve until told to stop.

SIGTERM and SIGINT: /readyz turns 503 at once, requests in flight are finished, the exit status is 0. A second SIGINT
stops without waiting. What is wrong at start-up is one sentence on standard error and exit status 1.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.api.wire import Protocol
from service.app import create_app
from service.errors import VaeError
from service.lifecycle import Server, give_large_blocks_back
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.cells import shared_directory

log = logging.getLogger("service")

# The workers' folder of metrics, for the workers; not a setting.
DIRECTORY = "_VAE_METRICS_DIRECTORY"


def main() -> None:
    """Serve until a signal. Exits with 1 and one sentence when it cannot start."""
    give_large_blocks_back()
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "VAE_" + "_".join(map(str, problem["loc"])).upper()
            print(f"{name}={problem['input']}: {problem['msg']}.", file=sys.stderr)
        sys.exit(1)
    sink = logs.configure(settings.log_level, settings.log_format)
    for name in sorted(name for name in os.environ if name.startswith("VAE_")):
        if name.removeprefix("VAE_").lower() not in Settings.model_fields:
            log.warning("%s is set, but there is no such setting.", name)
    if settings.workers == 1:
        try:
            app = create_app(settings, sink=sink)
        except (VaeError, OSError) as error:
            log.critical("%s", error)
            sys.exit(1)
        Server(configuration(settings, app)).run()
    else:
        with shared_directory() as directory:
            os.environ[DIRECTORY] = str(directory)  # to the workers, which share nothing else with this process
            config = configuration(settings, "service.__main__:worker", factory=True, workers=settings.workers)
            supervisor = Multiprocess(config, [config.bind_socket()])
            supervisor.run()
        sys.exit(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))


def configuration(settings: Settings, app: ASGIApp | str, **options: Any) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        http=Protocol,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections + 1,  # uvicorn refuses from so many on
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.drain_seconds,
        **options,
    )


def worker() -> FastAPI:
    """The application of one worker process; what is wrong at start-up stops the supervisor, too."""
    give_large_blocks_back()
    settings = Settings()
    sink = logs.configure(settings.log_level, settings.log_format)
    try:
        return create_app(settings, Path(os.environ[DIRECTORY]), sink)
    except (VaeError, OSError) as error:
        log.critical("%s", error)
        sys.exit(STARTUP_FAILURE)


if __name__ == "__main__":
    main()
