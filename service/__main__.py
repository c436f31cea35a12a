"""`python -m service`: read the settings, open the models, and serve until SIGTERM or SIGINT.

After a signal /readyz changes to 503 at once, requests in progress are finished, and the exit status is 0. A second
SIGINT stops the service without waiting. If the service cannot start, the log has one line for each reason, and the
exit status is 1. For unknown arguments it is 2.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from service import command_line, sockets
from service.api.wire import Protocol
from service.app import check, create_app
from service.errors import VaeError
from service.lifecycle import Server
from service.settings import InvalidSettings, Settings, log_format, read_settings, unknown_variables
from service.supervisor import Supervisor, is_first_to_fail
from service.telemetry import logs
from service.telemetry.cells import shared_directory
from service.telemetry.logs import LogWriter

log = logging.getLogger("service")

# Tells the workers the folder of their metrics. It is not a setting.
DIRECTORY = "_VAE_METRICS_DIRECTORY"


def main() -> None:
    """Serve until a signal."""
    logs.configure("info", log_format(os.environ))
    logs.log_what_python_reports()
    try:
        command_line.parse(sys.argv[1:])
        settings = read_settings()
    except command_line.UnknownArguments as error:
        end(2, str(error))
    except InvalidSettings as error:
        end(1, *error.problems)
    log_writer = logs.configure(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning("%s is set, but there is no such setting.", name)
    if settings.workers == 1:
        serve(settings, log_writer)
    else:
        supervise(settings)


def serve(settings: Settings, log_writer: LogWriter) -> None:
    """Serve in this process. Connections are refused until the models are open."""
    with reasons_end_the_process():
        listeners = sockets.bind(settings.host, settings.port)
        app = create_app(settings, log_writer=log_writer)
        sockets.listen(listeners)
    tell_address(settings, listeners)
    Server(configuration(settings, app)).run(listeners)


def supervise(settings: Settings) -> NoReturn:
    """Serve in several processes. Connections are accepted at once and wait until a worker has opened its models."""
    with ExitStack() as stack:
        with reasons_end_the_process():
            check(settings)  # once, before any worker starts
            listeners = sockets.bind(settings.host, settings.port)
            sockets.listen(listeners)  # now: until then, a second service could bind the same port
            directory = stack.enter_context(shared_directory())
        tell_address(settings, listeners)
        os.environ[DIRECTORY] = str(directory)  # the environment is all that workers inherit
        config = configuration(settings, "service.__main__:worker", factory=True, workers=settings.workers)
        supervisor = Supervisor(config, listeners, directory, settings.drain_pause_seconds)
        supervisor.run()
    sys.exit(supervisor.failed)


def configuration(settings: Settings, app: ASGIApp | str, **options: Any) -> uvicorn.Config:
    """The configuration of uvicorn."""
    return uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=settings.drain_seconds,
        timeout_worker_healthcheck=settings.stall_seconds,
        **options,
    )


def worker() -> FastAPI:
    """The application of one worker process. If it cannot start, the exit status tells the supervisor."""
    settings = read_settings()
    directory = Path(os.environ[DIRECTORY])
    log_writer = logs.configure(settings.log_level, settings.log_format)
    logs.log_what_python_reports()
    try:
        return create_app(settings, directory, log_writer)
    except Exception as error:
        if is_first_to_fail(directory):
            log.critical("%s", error, exc_info=None if isinstance(error, VaeError | OSError) else error)
        sys.exit(STARTUP_FAILURE)


def tell_address(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    """Log the address of the service, with the port that the system has chosen if the setting is 0."""
    address = sockets.url(settings.host, listeners[0].getsockname()[1])
    log.info("vae-service %s running on %s (Press CTRL+C to quit)", version("vae-service"), address)


@contextmanager
def reasons_end_the_process() -> Iterator[None]:
    """If the service cannot start, log the reason and exit with status 1."""
    try:
        yield
    except (VaeError, OSError) as error:
        end(1, str(error))


def end(status: int, *sentences: str) -> NoReturn:
    """Log one line for each sentence, and exit."""
    for sentence in sentences:
        log.critical("%s", sentence)
    sys.exit(status)


if __name__ == "__main__":
    main()
