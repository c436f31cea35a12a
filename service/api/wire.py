"""uvicorn's HTTP protocol with a fast path for the verbs: from the bytes on a connection to the verb and back.

For each request an ASGI server makes a scope, a cycle, an event, messages and two writes. Together they cost more than
all of the work on one digit. The fast path shares uvicorn's parser, connection and shutdown, but the request goes to
the verb as soon as its last byte is here, and the answer leaves in one write. It is for the common request: a POST to a
verb, HTTP/1.1, of at most `FAST_PATH_BYTES`, with nothing unanswered before it. Every other request takes uvicorn's
path, through ASGI; if it is for a verb, it ends at the same one.

docs/architecture.md lists what this module uses of uvicorn beyond its public names, and what each costs to do without.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api.answers import Answer
from service.api.context import RequestContext, request_id_of
from service.api.error_handlers import error_answer
from service.api.request_head import RequestHead, make_head
from service.api.state import AppState
from service.api.verbs import VERBS
from service.errors import Overloaded
from service.inference.admission import Admission
from service.telemetry.metrics import OTHER, UNMATCHED

# A longer body comes in many pieces, and is so much work that its path here does not matter.
FAST_PATH_BYTES: Final = 64 * 1024

_PATHS: Final = {path.encode("ascii"): path for path in VERBS}


class FastPathRequest(RequestContext):
    """One request on the fast path. To uvicorn's protocol it looks like a cycle.

    It also runs its own answer, for much less than an asyncio.Task costs: `begin` starts the coroutine, and each future
    that it awaits continues it when done. So a verb may await futures, but nothing that needs asyncio's current task.
    """

    __slots__ = ("_coroutine", "_done", "data", "head", "keep_alive", "response_complete")

    def __init__(self, admission: Admission, head: RequestHead, data: bytes, *, keep_alive: bool) -> None:
        super().__init__(request_id_of(head.headers), "POST", head.path, admission, head.length or 0)
        self.head = head
        self.data = data
        self.keep_alive = keep_alive
        self.response_complete = False
        self._coroutine: Coroutine[asyncio.Future[Any], None, Answer] | None = None

    def begin(self, state: AppState, done: Callable[[FastPathRequest, Answer | None], None]) -> None:
        """Have the verb answer. `done` gets the answer, or None when `cancel` ended the work without one."""
        self._done = done
        data, self.data = self.data, b""
        self._coroutine = VERBS[self.head.path].answer(state, self.head, data, self)
        self._step()

    def _step(self, _: object = None) -> None:
        if self._coroutine is None:
            return
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as ended:
            self._end(ended.value)
        except BaseException:
            self._end(None)
            raise
        else:
            awaited.add_done_callback(self._step)

    def cancel(self, msg: str | None = None) -> None:
        """End the work without an answer, as the server does when a drain takes too long."""
        if self._coroutine is not None:
            with contextlib.suppress(asyncio.CancelledError):
                self._coroutine.throw(asyncio.CancelledError(msg))
            self._end(None)

    def _end(self, answer: Answer | None) -> None:
        self._coroutine = None
        self._done(self, answer)

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone. uvicorn sets it; what has not begun by then is not begun."""
        return self.gone

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self.gone = gone

    @property
    def message_event(self) -> FastPathRequest:
        """What uvicorn calls `set` on when there is news for the application; here nobody waits for it."""
        return self

    def set(self) -> None:
        """Do nothing."""


class HeadTooLong(Exception):
    """The request's line and headers have more bytes than VAE_MAX_HEADER_BYTES."""


class Protocol(HttpToolsProtocol):
    """One connection. The methods without an underscore are callbacks of asyncio, httptools and uvicorn."""

    _arriving: FastPathRequest | None = None
    _in_head = False  # the last byte that came is part of a request's line or headers
    _head_bytes = 0  # bytes of that head so far, without those that came together with the end of another body
    _read_bytes = 0  # bytes of the latest read
    _between = True  # the last byte that came was the last one of a request
    _fresh = False  # the latest read begins with a request
    _idle_since = 0.0  # on the loop's clock: when the connection was made, or an answer left, or a piece of a body came
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the clock: a new connection may be silent for as long as one between two requests."""
        super().connection_made(transport)
        self._state: AppState = self.app_state["app_state"]
        self._idle_since = self.loop.time()
        self._close_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock. What the client asked for and has not begun is not begun."""
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse one read, and limit the size of a head, which uvicorn's parser does not."""
        fresh = self._between
        if fresh and self._is_free():
            known = self._state.head_cache.get(data)
            if known is not None:  # the parser, which is between two requests, need not see this one
                self._begin(self._new_request(*known, keep_alive=True))
                return
        self._read_bytes = len(data)
        self._fresh = fresh
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not (self._in_head or self._between):
            self._idle_since = self.loop.time()
        if self._in_head and self._head_bytes > self._state.settings.max_header_bytes:
            self._refuse_head(431)
        elif fresh and self._between:
            last: object = self.cycle
            if isinstance(last, FastPathRequest) and last.keep_alive:
                self._state.head_cache.add(data, last.head, self.url, self.headers)

    def on_message_begin(self) -> None:
        """Begin a request, with no more than both paths need."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_bytes = self._read_bytes if self._fresh else 0
        self._between = self._fresh = False

    def on_headers_complete(self) -> None:
        """Choose the request's path."""
        self._in_head = False
        most = self._state.settings.max_header_bytes
        if max(self._head_bytes, self._read_bytes) > most and self._head_length() > most:
            raise HeadTooLong  # the parser passes it on, and uvicorn calls send_400_response
        path, _, query = self.url.partition(b"?")
        if path in _PATHS and self._is_free():
            head = make_head(_PATHS[path], dict(self.headers), query)
            if self._takes_fast_path(head):
                self._arriving = self._new_request(head, b"", keep_alive=self.parser.should_keep_alive())
                return
        url, pairs, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += pairs  # the list that is in the scope already
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._arriving is None:
            super().on_body(body)
        else:
            self._arriving.data += body

    def on_message_complete(self) -> None:
        """Start to answer a request of the fast path."""
        self._between = True
        request, self._arriving = self._arriving, None
        if request is None:
            super().on_message_complete()
        else:
            self._begin(request)

    def on_response_complete(self) -> None:
        """Continue with what follows on the connection. Unlike uvicorn's, this sets no timer for each answer."""
        self._idle_since = self.loop.time()
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # ours says what is wrong
        """Answer what is not HTTP, or a head that is too long, and close the connection."""
        error = sys.exception()  # the parser's, made of the one that on_headers_complete raised, if it did
        self._refuse_head(431 if error is not None and isinstance(error.__context__, HeadTooLong) else 400)

    def _is_free(self) -> bool:
        """Whether the connection is ready for a request on the fast path."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # pipelined: uvicorn keeps the order
        if self.flow.write_paused:
            return False  # the client does not read its answers: uvicorn waits until it does
        # Where there are too many connections, uvicorn refuses it.
        return self.limit_concurrency is None or len(self.connections) < self.limit_concurrency

    def _takes_fast_path(self, head: RequestHead) -> bool:
        """Whether a request with this head, the one in the parser, may take the fast path."""
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        if self.expect_100_continue or parser.should_upgrade():
            return False
        if b"origin" in head.headers and self._state.settings.cors_origins:
            return False
        return head.length is not None and head.length <= FAST_PATH_BYTES

    def _new_request(self, head: RequestHead, body: bytes, *, keep_alive: bool) -> FastPathRequest:
        request = FastPathRequest(self._state.admission, head, body, keep_alive=keep_alive)
        self.cycle = cast("RequestResponseCycle", request)
        return request

    def _begin(self, request: FastPathRequest) -> None:
        """Answer a whole request, at once when there is no room for it."""
        try:
            request.arrive()
        except Overloaded as error:
            self._send(request, VERBS[request.head.path].refuse(self._state, request.head, request, error))
        else:
            self.tasks.add(cast("asyncio.Task[None]", request))
            request.begin(self._state, self._end)

    def _head_length(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _close_if_idle(self) -> None:
        """Close the connection when it has been idle for too long, else look again when it could be."""
        arriving = self._arriving is not None or getattr(self.cycle, "more_body", False)
        busy = self.cycle is not None and not self.cycle.response_complete and not arriving
        left = self.timeout_keep_alive - (0 if busy else self.loop.time() - self._idle_since)
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._close_if_idle)
        else:
            self.transport.close()

    def _end(self, request: FastPathRequest, answer: Answer | None) -> None:
        self.tasks.discard(cast("asyncio.Task[None]", request))
        self._send(request, answer)

    def _send(self, request: FastPathRequest, answer: Answer | None) -> None:
        """Write the answer, if there is one and a client to read it."""
        if answer is not None and not request.disconnected:
            self._write(answer, keep_alive=request.keep_alive)
            request.response_complete = True
        if not (request.response_complete and request.keep_alive):
            self.transport.close()
        self.on_response_complete()

    def _write(self, answer: Answer, *, keep_alive: bool) -> None:
        lines = [b": ".join(header) for header in (*self.server_state.default_headers, *answer.all_headers())]
        if not keep_alive:
            lines.append(b"connection: close")
        self.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[answer.status], b"\r\n".join(lines), answer.content))

    def _refuse_head(self, status: int) -> None:
        """Answer 400 or 431 to what never became a request, have it observed, and close the connection."""
        self._in_head = False
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and self._arriving is None:
            whole = not isinstance(cycle, RequestResponseCycle) or not cycle.more_body
            if whole:  # the request before this one is answered, and then the connection closes
                cycle.keep_alive = False
                return
        most = self._state.settings.max_header_bytes
        detail = "This is not HTTP/1.1." if status == 400 else f"The request's head is longer than {most} bytes."
        request = RequestContext(request_id_of({}), OTHER, UNMATCHED)
        answer = error_answer(HTTPException(status, detail), request.request_id, "")
        request.was_answered(status, len(answer.content))
        answer.headers += request.headers()
        self._write(answer, keep_alive=False)
        self._state.observer.observe(request, {})
        self.transport.close()
