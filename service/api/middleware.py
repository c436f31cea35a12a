"""The gate: every request gets an id and a clock, and every answer carries both. Pure ASGI, around all but the verbs.

The verbs stamp their own answers, with the same two functions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_handlers import error_response
from service.batcher import Timing

# An id goes into logs and headers as it is, so only what cannot break either is taken over from a client.
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def identify(headers: Mapping[bytes, bytes]) -> str:
    """A request's id: the client's X-Request-ID, if sane, else a new one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and _SANE_ID.fullmatch(sent):
        return sent.decode("ascii")
    return f"{random.getrandbits(128):032x}"  # to tell requests apart, not to keep a secret


def stamps(request_id: str, timing: Timing) -> list[tuple[bytes, bytes]]:
    """The headers that every answer carries."""
    spent = b"queue;dur=%.3f, compute;dur=%.3f" % (timing.queue * 1e3, timing.compute * 1e3)
    return [(b"x-request-id", request_id.encode("ascii")), (b"server-timing", spent)]


class Gate:
    """Puts `request_id` into the request's state, and the stamps onto the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = identify(dict(scope["headers"]))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = list(message.get("headers", ()))
                if not any(name == b"x-request-id" for name, _ in headers):  # a verb stamps its own
                    headers += stamps(request_id, Timing())
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, send_stamped)
        except Exception as error:
            # What no handler knows. Starlette's own last resort lies outside this gate and would answer without the id.
            if started:
                raise
            await error_response(error, request_id, scope["path"])(scope, receive, send_stamped)
