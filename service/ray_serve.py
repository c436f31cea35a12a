"""The service as an application of Ray Serve: `serve deploy deploy/ray/serve.yaml`. It needs the extra `ray`.

Each replica is a process with `create_app` in it. Ray's proxies take the connections, so a replica has none of the
server's own parts: the fast path, the rules for slow clients, and signals.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from fastapi import FastAPI
from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import create_app
from service.settings import read_settings, unknown_variables
from service.telemetry import logs

_REQUEST_ID: Final = b"x-request-id"


class Unhealthy(Exception):
    """A replica is not ready. The message is the reason that /readyz gives."""


class Mounted:
    """The application as a replica calls it. It does two things that the service's own server need not do.

    Ray Serve does not hand the lifespan's state to requests (ASGI, "Lifespan State"). And its proxies add an
    X-Request-ID of their own to every answer: the client's, or the one that they have given to the request.
    """

    def __init__(self, app: FastAPI) -> None:
        self.service = app
        self._state: dict[str, object] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "lifespan":
            scope["state"] = self._state
            await self.service(scope, receive, send)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != _REQUEST_ID]
            await send(message)

        scope["state"] = self._state.copy()
        await self.service(scope, receive, send_without_id)


def build() -> ASGIApp:
    """The application of one replica, with settings from its environment. Raises what `create_app` raises."""
    settings = read_settings()
    log_writer = logs.configure(settings.log_level, settings.log_format)
    logs.log_what_python_reports()  # of Ray's own hooks it replaces one, which does nothing in a replica
    for name in unknown_variables(os.environ):
        logging.getLogger(__name__).warning("%s is set, but there is no such setting.", name)
    return Mounted(create_app(settings, log_writer=log_writer))


class Replica:
    """One process that serves all models."""

    app: Mounted  # what `build` gave

    async def check_health(self) -> None:
        """Do nothing if the replica is ready, as /readyz says. Raises Unhealthy; Ray then replaces the replica."""
        reason = await self.app.service.state.health.unready()
        if reason is not None:
            raise Unhealthy(reason)


DEPLOYMENT = serve.deployment(name="vae")(serve.ingress(build)(Replica))
app = DEPLOYMENT.bind()
