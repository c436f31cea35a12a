"""The gate and the door, pure ASGI, around all but the verbs, which do both for themselves with the same functions.

The gate gives every request an id and every answer its stamps, and pages the headers that protect them. The door asks
for an API key.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_handlers import error_response
from service.api.keys import Keys
from service.errors import Unauthorized
from service.inference.admission import Ticket
from service.telemetry.metrics import UNMATCHED

# An id goes into logs and headers as it is, so only what cannot break either is taken over from a client.
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def identify(headers: Mapping[bytes, bytes]) -> str:
    """A request's id: the client's X-Request-ID, if sane, else a new one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and _SANE_ID.fullmatch(sent):
        return sent.decode("ascii")
    return random.randbytes(16).hex()  # noqa: S311  # to tell requests apart, not to keep a secret


def stamps(ticket: Ticket) -> list[tuple[bytes, bytes]]:
    """The headers that every answer carries."""
    spent = b"queue;dur=%.3f, compute;dur=%.3f" % (ticket.queue * 1e3, ticket.compute * 1e3)
    return [(b"x-request-id", ticket.request_id.encode("ascii")), (b"server-timing", spent)]


# Whoever looks after the service has no key of it.
_OPEN: Final = frozenset({"/livez", "/readyz", "/metrics"})

# For pages. /docs loads its scripts and styles from where Swagger UI's makers publish them.
_PAGE_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'self' "
        b"'unsafe-inline' https://cdn.jsdelivr.net; img-src 'self' data: https://fastapi.tiangolo.com; "
        b"frame-ancestors 'none'",
    ),
]


class Door:
    """Asks for an API key, where keys are set, before all but the probes. The verbs ask for themselves."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            try:
                self.keys.check(dict(scope["headers"]))
            except Unauthorized as error:
                await error_response(error, scope["state"]["request_id"], scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Gate:
    """Puts `request_id` into the request's state, and the stamps onto the answer, and counts it.

    A verb counts for itself, and says so: it puts `counted` into the state.
    """

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
        began = time.perf_counter()

        async def send_stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if "counted" not in scope["state"]:
                    seconds = time.perf_counter() - began
                    template = getattr(scope.get("route"), "path", UNMATCHED)
                    scope["state"]["rooms"].metrics.request(template, scope["method"], message["status"], seconds)
                headers = list(message.get("headers", ()))
                if not any(name == b"x-request-id" for name, _ in headers):  # a verb stamps its own
                    headers += stamps(Ticket(request_id=request_id))
                if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                    headers += _PAGE_HEADERS
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, send_stamped)
        except Exception as error:
            # What no handler knows. Starlette's own last resort lies outside this gate and would answer without the id.
            if started:
                raise
            await error_response(error, request_id, scope["path"])(scope, receive, send_stamped)
