"""Pure ASGI middleware around everything but the verbs, which do the same work themselves with the same functions."""

from __future__ import annotations

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import compression, etags
from service.api.context import RequestContext, request_id_of
from service.api.error_handlers import error_response
from service.api.keys import Keys
from service.api.request_head import content_length, header_map
from service.api.requests import SMALL_BYTES
from service.api.state import AppState
from service.errors import Unauthorized
from service.inference.admission import Reservation
from service.telemetry.metrics import UNMATCHED

PROBES: Final = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})

# What opens without a key: the probes, because an orchestrator has none; the documentation, which says how to send one;
# and the playground, which asks for one.
_OPEN: Final = PROBES | {"/", "/docs", "/openapi.json"}
_OPEN_FOLDERS: Final = ("/docs/", "/playground/")

# The media types of answers beside those of the verbs that become shorter. Other files are compressed already, or
# numbers, of which little is gained.
_TEXTS: Final = ("text/", "application/json", "application/openmetrics-text")

# For pages. Everything on them comes from this service. Swagger UI has icons in its style sheet (data:), and pages show
# the pictures of answers (data: and blob:).
_PAGE_HEADERS: Final = [
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class ApiKeyMiddleware:
    """Demands an API key, where keys are set, for every path but the open ones. The verbs check keys themselves."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                self.keys.check(dict(scope["headers"]))
            except Unauthorized as error:
                request: RequestContext = scope["state"]["request"]
                await error_response(error, request.request_id, scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


class CompressionMiddleware:
    """Compresses what the routes beside the verbs answer, if it is text: the verbs do so themselves.

    It is inside of `RequestIdMiddleware`, so that the answer to HEAD has the headers of that to GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        start: Message | None = None

        async def send_packed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                head, start = start, None
                if not message.get("more_body", False):
                    message = {**message, "body": await _packed(scope, head, message.get("body", b""))}
                await send(head)
            await send(message)

        await self.app(scope, receive, send_packed if scope["type"] == "http" else send)


async def _packed(scope: Scope, head: Message, content: bytes) -> bytes:
    """The content as the client is sent it; `head` gets the headers that say how."""
    state: AppState = scope["state"]["app_state"]
    request: RequestContext = scope["state"]["request"]
    headers = MutableHeaders(raw=head["headers"])
    client = compression.accepted(header_map(scope["headers"]).get(b"accept-encoding", b""))
    least = state.settings.compress_from_bytes if client.plain else 0
    is_text = headers.get("content-type", "").startswith(_TEXTS)
    if request.status or head["status"] != 200 or len(content) < least or "content-encoding" in headers or not is_text:
        return content
    if "accept-encoding" not in headers.get("vary", ""):
        headers.add_vary_header("accept-encoding")
    reservation = Reservation(state.admission)
    try:
        if client.best is None or not compression.has_room(reservation, content):
            return content
        if len(content) <= SMALL_BYTES:
            packed = compression.pack(content, client.best)
        else:  # not where pictures are decoded: the probes do not wait for those
            packed = await run_in_threadpool(compression.pack, content, client.best)
    finally:
        reservation.release()
    if len(packed) >= len(content) and client.plain:
        return content
    headers["content-encoding"] = client.best
    headers["content-length"] = str(len(packed))
    if "etag" in headers:
        headers["etag"] = etags.coded(headers["etag"], client.best)
    return packed


class RequestIdMiddleware:
    """Gives each request its context and its id, the answer its headers, and has the request observed.

    A verb does all of that itself: its answer has the headers, and its context has a status, already. HEAD is answered
    as GET is, without the content (RFC 9110, section 9.3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state: AppState = scope["state"]["app_state"]
        headers = dict(scope["headers"])
        request = RequestContext(
            request_id_of(headers), scope["method"], UNMATCHED, bytes_in=content_length(headers) or 0
        )
        scope["state"]["request"] = request
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}
        status = bytes_out = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
                added = list(message.get("headers", ()))
                if not request.status:
                    added += request.headers()
                if any(name == b"content-type" and value.startswith(b"text/html") for name, value in added):
                    added += _PAGE_HEADERS
                message["headers"] = added
            elif is_head:
                message = {**message, "body": b""}
            else:
                bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            # No handler knows it. Starlette's last one is outside of this middleware and would answer without the id.
            if status:
                raise
            await error_response(error, request.request_id, scope["path"])(scope, receive, send_with_id)
        finally:
            if status and not request.status:
                request.route = _template(scope)
                request.was_answered(status, bytes_out)
                state.observer.observe(request, headers)


def _template(scope: Scope) -> str:
    """The template of the route that answered, or UNMATCHED. Starlette's own routes put none into the scope."""
    if "route" in scope:
        template: str = scope["route"].path
        return template
    return scope["path"] if "endpoint" in scope and not scope.get("path_params") else UNMATCHED
