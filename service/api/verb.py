"""What all verbs have in common: from a request's head and body to its answer.

The common request comes straight from its connection (`wire.py`), every other one through ASGI: from `app.Service`,
before any router or middleware, or from FastAPI's routes of the same paths, which document them. There is one
implementation for all, one set of schemas, and one table of errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from service.api.answers import Answer, negotiate
from service.api.compression import negotiate_codings, pack_answer, unpack_body
from service.api.context import RequestContext, request_id_of
from service.api.error_handlers import error_answer
from service.api.request_head import RequestHead, RequestOptions, header_map, make_head, read_head
from service.api.requests import SMALL_BYTES, Body, Read, receive_body
from service.api.state import AppState
from service.api.stream_groups import Rows
from service.api.streams import answer_stream, is_stream
from service.errors import Overloaded, VaeError

Work = Callable[[AppState, Body, RequestContext], Awaitable[Answer]]


class Verb:
    """A POST route: negotiate, read, work, answer. The one table of errors answers whatever goes wrong."""

    def __init__(
        self,
        work: Work,
        takes: tuple[str, ...],
        gives: tuple[str, ...],
        template: str = "",
        rows: Rows | None = None,
    ) -> None:
        """`rows` is for streams, where the route takes them."""
        self._work = work
        self._takes = takes
        self._gives = gives
        self._template = template
        self._rows = rows

    def route_of(self, path: str) -> str:
        """The route's template for a request to `path`, which metrics and logs name."""
        return self._template or path

    async def answer(self, state: AppState, head: RequestHead, body: bytes | Read, request: RequestContext) -> Answer:
        """Answer one request, whose body is here or can be read. Raises nothing."""
        try:
            state.keys.check(head.headers)
            options = head.options or self._options(state, head)
            if isinstance(body, bytes):
                if len(body) > SMALL_BYTES and not request.reservation.bytes:
                    request.reservation.hold_bytes(len(body))
                content = Body(body, options)
            else:
                content = Body(await body(state.settings.max_body_bytes), options)
            body = b""  # what parses the content is the last to hold it
            request.deadline = request.arrived + options.timeout
            if options.body_codings:
                await unpack_body(content, state, request)
            answer = await self._work(state, content, request)
            if len(answer.content) >= options.compress_from:
                await pack_answer(answer, options, state, request)
        except asyncio.CancelledError:  # the server does this when a drain takes too long
            answer = _refuse(Overloaded("The service stops before the answer is ready.", "draining"), request)
        except Exception as error:  # the table has an answer for any
            answer = _refuse(error, request)
        finally:
            request.reservation.release()
        return self._finish(state, head, request, answer)

    def is_streamed(self, head: RequestHead) -> bool:
        """Whether a request with this head is a stream, which is answered through ASGI."""
        return self._rows is not None and is_stream(head, self._gives)

    def refuse(self, state: AppState, head: RequestHead, request: RequestContext, error: VaeError) -> Answer:
        """The answer to a request that is not even begun."""
        return self._finish(state, head, request, _refuse(error, request))

    def _finish(self, state: AppState, head: RequestHead, request: RequestContext, answer: Answer) -> Answer:
        """Add the headers of every answer, and have the request observed."""
        request.was_answered(answer.status, len(answer.content))
        answer.headers += request.headers()
        state.observer.observe(request, head.headers)
        return answer

    def _options(self, state: AppState, head: RequestHead) -> RequestOptions:
        """What the head asks for, which it keeps from now on."""
        codings = negotiate_codings(head.headers, state.settings)
        options = self._negotiate(state, head)
        options.body_codings, options.answer_coding, options.compress_from = codings
        head.options = options
        return options

    def _negotiate(self, state: AppState, head: RequestHead) -> RequestOptions:
        answer_type = negotiate(head.headers.get(b"accept", b""), self._gives)
        return read_head(
            head, self._takes, answer_type, state.settings.max_body_bytes, state.settings.deadline_ms / 1e3
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an ASGI application."""
        state: AppState = scope["state"]["app_state"]
        head = make_head(scope["path"], header_map(scope["headers"]), scope["query_string"])
        request: RequestContext | None = scope["state"].get("request")  # of the middleware, where there was any
        if request is None:
            request = RequestContext(request_id_of(head.headers))
        request.begin_verb(self.route_of(head.path), state.admission, head.length or 0)
        if self._rows is not None and self.is_streamed(head):
            error = await answer_stream(state, head, request, self._rows, scope, receive, send)
            if error is not None:
                await _send(send, self._finish(state, head, request, _refuse(error, request)))
            return
        watch: asyncio.Task[None] | None = None

        async def read(max_bytes: int) -> bytes:
            nonlocal watch
            data = await receive_body(receive, request.reservation, head.length, max_bytes)
            request.bytes_in = len(data)
            request.arrive()
            watch = asyncio.create_task(_watch(receive, request))
            return data

        try:
            answer = await self.answer(state, head, read, request)
        finally:
            if watch is not None:
                watch.cancel()
        await _send(send, answer)


async def _send(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    await send({"type": "http.response.body", "body": answer.content})


def _refuse(error: Exception, request: RequestContext) -> Answer:
    if isinstance(error, VaeError):
        request.rejection = error.rejection
    return error_answer(error, request.request_id, request.route)


async def _watch(receive: Receive, request: RequestContext) -> None:
    """Note when the client goes: what has not begun by then is not begun."""
    while (await receive())["type"] != "http.disconnect":
        pass
    request.gone = True
