"""The gate: every request gets an id and a clock, every answer carries both. Pure ASGI, around everything else."""

from __future__ import annotations

import logging
import re
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_handlers import OUR_FAULT, problem
from service.batcher import Timing

log = logging.getLogger(__name__)

# An id goes into logs and headers as it is, so only what cannot break either is taken over from a client.
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Gate:
    """Puts `request_id` (str) and `timing` (Timing) into the request's state, and both into the answer's headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = sent.decode("ascii") if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
        timing = Timing()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["timing"] = timing

        started = False

        async def send_stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["Server-Timing"] = f"queue;dur={timing.queue * 1e3:.3f}, compute;dur={timing.compute * 1e3:.3f}"
            await send(message)

        try:
            await self.app(scope, receive, send_stamped)
        except Exception:
            # What no handler knows. Starlette's own last resort lies outside this gate and would answer without the id.
            log.exception("%s %s: unexpected", request_id, scope["path"])
            if started:
                raise
            await problem(500, OUR_FAULT, request_id)(scope, receive, send_stamped)
