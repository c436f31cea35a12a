"""uvicorn's HTTP protocol with a short way for the verbs: from the bytes on a connection to the verb and back.

For each request an ASGI server makes a scope, a cycle, an event, messages and two writes; together they cost more than
all of a digit's own work. The short way shares uvicorn's parser, connection and shutdown, but the request goes to the
verb as soon as its last byte is here, and the answer leaves in one write. It is for the common request: a POST to a
verb, HTTP/1.1, of at most `SHORT_BYTES`, with nothing unanswered before it. Every other request goes uvicorn's way,
through ASGI, and if it is for a verb it ends at the very same one.
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
from service.api.error_handlers import error_answer
from service.api.middleware import identify, stamps
from service.api.requests import Head, make_head
from service.api.state import Rooms
from service.api.verbs import VERBS
from service.errors import Overloaded
from service.inference.admission import Admission, Ticket

# A longer body comes in many pieces, and so much work is in it that its way here does not matter.
SHORT_BYTES: Final = 64 * 1024

_PATHS: Final = {path.encode("ascii"): path for path in VERBS}


class Exchange(Ticket):
    """One request on the short way. To uvicorn's protocol it is a cycle, with an event that nobody waits for.

    It is also the task of its own answer, for much less than asyncio's: begun at once, and gone on with when the future
    that it waits for is done. So a verb may wait for futures, and for nothing that asks asyncio for the current task.
    """

    __slots__ = ("_answering", "_done", "body", "head", "keep_alive", "response_complete")

    def __init__(self, admission: Admission, head: Head, body: bytes, *, keep_alive: bool) -> None:
        super().__init__(admission, identify(head.headers))
        self.head = head
        self.body = body
        self.keep_alive = keep_alive
        self.response_complete = False
        self._answering: Coroutine[asyncio.Future[Any], None, Answer] | None = None

    def begin(self, rooms: Rooms, done: Callable[[Exchange, Answer | None], None]) -> None:
        """Have the verb answer; `done` gets the answer, or None when there is none because of `cancel`."""
        self._done = done
        body, self.body = self.body, b""
        self._answering = VERBS[self.head.path].answer(rooms, self.head, body, self)
        self._go_on()

    def _go_on(self, _: object = None) -> None:
        if self._answering is None:
            return
        try:
            waits_for = self._answering.send(None)
        except StopIteration as ended:
            self._end(ended.value)
        except BaseException:
            self._end(None)
            raise
        else:
            waits_for.add_done_callback(self._go_on)

    def cancel(self, msg: str | None = None) -> None:
        """End the work without an answer, as the server does when a drain takes too long."""
        if self._answering is not None:
            with contextlib.suppress(asyncio.CancelledError):
                self._answering.throw(asyncio.CancelledError(msg))
            self._end(None)

    def _end(self, answer: Answer | None) -> None:
        self._answering = None
        self._done(self, answer)

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone; uvicorn says so here, and what is not begun by then will not be."""
        return self.gone

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self.gone = gone

    @property
    def message_event(self) -> Exchange:
        """What uvicorn tells that there is news for the application."""
        return self

    def set(self) -> None:
        """Take no notice."""


class HeadTooLong(Exception):
    """More bytes before the body than VAE_MAX_HEADER_BYTES."""


class Protocol(HttpToolsProtocol):
    """One connection. The methods without an underscore are asyncio's and httptools' callbacks, and uvicorn's own."""

    _arriving: Exchange | None = None
    _in_head = False  # the last byte that came is part of a request's line or headers
    _head_bytes = 0  # bytes of it that came, but for those that came together with the end of another body
    _read_bytes = 0  # bytes that came together just now
    _between = True  # the last byte that came was the last one of a request
    _fresh = False  # what came just now begins with a request
    _idle_since = 0.0  # by the loop's clock: when the connection was made, an answer left, or a piece of a body came
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Greet a client, who has as long as between two requests to say something."""
        super().connection_made(transport)
        self._rooms: Rooms = self.app_state["rooms"]
        self._idle_since = self.loop.time()
        self._close_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take leave of the client; what it asked for and has not been begun never will be."""
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came, and count it while it is a head: uvicorn's parser would take any number of headers."""
        fresh = self._between
        if fresh and self._is_free():
            known = self._rooms.heads.recall(data)
            if known is not None:  # and the parser, which is between two requests, need not hear of this one
                self._begin(self._exchange(*known, keep_alive=True))
                return
        self._read_bytes = len(data)
        self._fresh = fresh
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not (self._in_head or self._between):
            self._idle_since = self.loop.time()
        if self._in_head and self._head_bytes > self._rooms.settings.max_header_bytes:
            self._refuse_head(431)
        elif fresh and self._between:
            last: object = self.cycle
            if isinstance(last, Exchange) and last.keep_alive:
                self._rooms.heads.keep(data, last.head, self.url, self.headers)

    def on_message_begin(self) -> None:
        """Begin a request, with no more than both ways need."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_bytes = self._read_bytes if self._fresh else 0
        self._between = self._fresh = False

    def on_headers_complete(self) -> None:
        """Choose the request's way."""
        self._in_head = False
        most = self._rooms.settings.max_header_bytes
        if max(self._head_bytes, self._read_bytes) > most and self._head_length() > most:
            raise HeadTooLong  # out of the parser; uvicorn has that answered by send_400_response
        path, _, query = self.url.partition(b"?")
        if path in _PATHS and self._is_free():
            head = make_head(_PATHS[path], dict(self.headers), query)
            if self._is_short(head):
                self._arriving = self._exchange(head, b"", keep_alive=self.parser.should_keep_alive())
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
            self._arriving.body += body

    def on_message_complete(self) -> None:
        """Have a request on the short way answered: when there is no room for it, at once."""
        self._between = True
        exchange, self._arriving = self._arriving, None
        if exchange is None:
            super().on_message_complete()
        else:
            self._begin(exchange)

    def on_response_complete(self) -> None:
        """Make ready for what follows. Unlike uvicorn's, this sets no timer for each answer."""
        self._idle_since = self.loop.time()
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # ours says what is wrong
        """Answer what is not HTTP, or more of it than is allowed, and close the connection."""
        error = sys.exception()  # the parser's, made of the one that was raised in on_headers_complete if it was
        self._refuse_head(431 if error is not None and isinstance(error.__context__, HeadTooLong) else 400)

    def _is_free(self) -> bool:
        """Whether the connection is ready for a request on the short way."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # pipelined: uvicorn keeps the order
        if self.flow.write_paused:
            return False  # the client does not read its answers: uvicorn waits until it does
        # Where there are too many connections, uvicorn refuses it.
        return self.limit_concurrency is None or len(self.connections) < self.limit_concurrency

    def _is_short(self, head: Head) -> bool:
        """Whether a request with this head, the one in the parser, may go the short way."""
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        if self.expect_100_continue or parser.should_upgrade():
            return False
        if b"origin" in head.headers and self._rooms.settings.cors_origins:
            return False
        return head.length is not None and head.length <= SHORT_BYTES

    def _exchange(self, head: Head, body: bytes, *, keep_alive: bool) -> Exchange:
        exchange = Exchange(self._rooms.admission, head, body, keep_alive=keep_alive)
        self.cycle = cast("RequestResponseCycle", exchange)
        return exchange

    def _begin(self, exchange: Exchange) -> None:
        """Have a whole request on the short way answered: when there is no room for it, at once."""
        try:
            exchange.arrive()
        except Overloaded as error:
            self._send(exchange, VERBS[exchange.head.path].refusal(self._rooms, exchange.head, exchange, error))
        else:
            self.tasks.add(cast("asyncio.Task[None]", exchange))
            exchange.begin(self._rooms, self._end)

    def _head_length(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _close_if_idle(self) -> None:
        """Close the connection if it has been idle for too long, else look again when it could be."""
        arriving = self._arriving is not None or getattr(self.cycle, "more_body", False)
        busy = self.cycle is not None and not self.cycle.response_complete and not arriving
        left = self.timeout_keep_alive - (0 if busy else self.loop.time() - self._idle_since)
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._close_if_idle)
        else:
            self.transport.close()

    def _end(self, exchange: Exchange, answer: Answer | None) -> None:
        self.tasks.discard(cast("asyncio.Task[None]", exchange))
        self._send(exchange, answer)

    def _send(self, exchange: Exchange, answer: Answer | None) -> None:
        """Write the answer, if there is one and somebody to read it."""
        if answer is not None and not exchange.disconnected:
            self._write(answer, keep_alive=exchange.keep_alive)
            exchange.response_complete = True
        if not (exchange.response_complete and exchange.keep_alive):
            self.transport.close()
        self.on_response_complete()

    def _write(self, answer: Answer, *, keep_alive: bool) -> None:
        lines = [b": ".join(header) for header in (*self.server_state.default_headers, *answer.all_headers())]
        if not keep_alive:
            lines.append(b"connection: close")
        self.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[answer.status], b"\r\n".join(lines), answer.content))

    def _refuse_head(self, status: int) -> None:
        self._in_head = False
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and self._arriving is None:
            whole = not isinstance(cycle, RequestResponseCycle) or not cycle.more_body
            if whole:  # the request before this one is answered, and then the connection closes
                cycle.keep_alive = False
                return
        most = self._rooms.settings.max_header_bytes
        detail = "This is not HTTP/1.1." if status == 400 else f"The request's head is longer than {most} bytes."
        request_id = identify({})
        answer = error_answer(HTTPException(status, detail), request_id, "")
        answer.headers += stamps(Ticket(request_id=request_id))
        self._write(answer, keep_alive=False)
        self.transport.close()
