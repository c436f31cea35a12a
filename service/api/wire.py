"""uvicorn's HTTP protocol with a fast path for the verbs: from the bytes on a connection to the verb and back.

For each request an ASGI server makes a scope, a cycle, an event, messages and two writes. Together they cost more than
all of the work on one digit. The fast path shares uvicorn's parser, connection and shutdown, but the request goes to
the verb as soon as its last byte is here, and the answer leaves in one write. It is for the common request: a POST to a
verb, HTTP/1.1, of at most `FAST_PATH_BYTES`, with nothing unanswered before it. Every other request takes uvicorn's
path, through ASGI; if it is for a verb, it ends at the same one.

Against a hostile client each connection has bounds, which uvicorn and httptools do not have: see docs/security.md.
docs/architecture.md lists what this module uses of uvicorn beyond its public names, and what each costs to do without.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Final, cast

import httptools
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.answers import Answer
from service.api.fast_path import FastPathRequest, is_common, refusal_answer
from service.api.flow import Flow, when_reset
from service.api.framing import Framing
from service.api.linger import LINGER_SECONDS, REST_BYTES, LingeringTransport
from service.api.middleware import PROBES
from service.api.request_head import RequestHead, check_head, head_too_long, make_head
from service.api.state import AppState
from service.api.watch import Reason, Turn, Watch
from service.errors import VaeError

# So many connections beyond VAE_MAX_CONNECTIONS are read, for one of them may carry a probe.
PROBE_CONNECTIONS: Final = 16

_OF_A_CONNECTION: Final = frozenset({b"connection", b"proxy-connection"})
_OPEN: Final = {path.encode("ascii") for path in PROBES}


class Protocol(HttpToolsProtocol):
    """One connection. The methods without an underscore are callbacks of asyncio, httptools and uvicorn."""

    flow: Flow
    url = b""
    busy = False  # a stream has answers that are not sent: the connection does not wait for its client
    _arriving: FastPathRequest | None = None
    _offers_upgrade = False  # the request in the parser does
    _unparsed = b""  # what was read while too many requests were unanswered
    _rest = 0  # bytes that were read and dropped
    _running: RequestResponseCycle | None = None  # the first of the unanswered requests; `cycle` is the last
    _last = False  # no other request begins on this connection
    _refusal: HTTPException | None = None  # answered when all before it is; then the connection closes
    _is_bare = False  # the answer to what is refused has no body, for it asks with HEAD

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to watch the connection. One too many is closed at once, unless a probe may come on it."""
        self._link = transport = LingeringTransport(transport, self.loop.call_later)
        super().connection_made(transport)
        self._state: AppState = self.app_state["app_state"]
        settings = self._state.settings
        self.flow = Flow(transport, self._state.admission)
        self._framing = Framing()
        self._watch = Watch(
            self.loop,
            transport,
            seconds=settings.keep_alive_seconds,
            least_rate=settings.min_body_rate,
            turn=self._turn,
            close=self._close_idle,
        )
        if len(self.connections) > settings.max_connections + PROBE_CONNECTIONS:
            self._state.metrics.connection_closed("too_many")
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching. What the client asked for and has not begun is not begun."""
        self._watch.stop()
        self._link.stop()
        self._leave()
        super().connection_lost(exc)
        self.flow.release()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn returns None, and the transport closes at once
        """The client sends no more, but may still read: answer what has arrived whole, then close."""
        self._link.client_ended = True
        if self._framing.in_body:
            self._abandon()
        self._end()
        when_reset(self.loop, self.transport, self._running, lambda: self._unanswered() > 0, self._leave)
        return not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Take the fast path with a whole request whose head is known; else parse the read."""
        self._watch.received += len(data)
        fresh = self._framing.between
        if fresh and self._is_free():
            known = self._state.head_cache.get(data)
            if known is not None:  # the parser, which is between two requests, need not see this one
                self._begin(self._new_request(*known, keep_alive=True))
                return
        if self._is_over():
            self._drop(len(data))
            return
        if self._unparsed:
            self._hold_back(data)
            return
        before: object = self.cycle
        self._parse(data)
        if self._arriving is not None:
            self._begin(self._arriving, whole=False)
        if fresh and self._framing.between:
            last: object = self.cycle
            if last is not before and isinstance(last, FastPathRequest) and last.keep_alive:
                self._state.head_cache.add(data, last.head, self.url, self.headers)

    def _parse(self, data: bytes) -> None:
        """Parse request by request while not too many are unanswered; hold back the rest."""
        framing, most = self._framing, self._state.settings.max_header_bytes
        start = 0
        while start < len(data) and not self._is_over():
            if framing.between and self._unanswered() >= self._state.settings.max_pipelined:
                self._hold_back(data[start:])
                return
            end = framing.cut(data, start)
            if end == start:  # the parser waits for a body where the framing knows of none
                self._refuse(HTTPException(400, "This is not HTTP/1.1."))
                return
            if framing.head_bytes <= most:
                self._feed(data[start:end])
            if framing.excess() > most:
                self._refuse(head_too_long(most))
            elif self._framing.in_body and self.cycle.response_complete:
                self._drop(end - start)
            start = end
        if self._state.health.draining and framing.between and self._unanswered():
            self._last, self.cycle.keep_alive = True, False

    def _is_over(self) -> bool:
        """Whether what comes next is no part of a request that is answered."""
        return self._refusal is not None or (self._last and self._framing.between) or self.transport.is_closing()

    def _feed(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__  # what a callback raised, if one did
            self._refuse(cause if isinstance(cause, HTTPException) else HTTPException(400, "This is not HTTP/1.1."))

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Parse the head again without its offer to upgrade, which a server may ignore (RFC 9110, section 7.8).

        httptools takes what follows such a head for another protocol and drops it. So a new parser gets the head, and
        then what follows. This can go when httptools lets a server refuse an upgrade (MagicStack/httptools#124).
        """
        method = self.parser.get_method()
        self._offers_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            self._refuse(HTTPException(405, "This is no proxy.", {"Allow": "GET, HEAD, OPTIONS, POST"}))
        else:
            lines = b"".join([b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"])
            self._feed(b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, self._version.encode(), lines) + rest)

    def on_message_begin(self) -> None:
        """Begin a request, with no more than both paths need."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._framing.message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. A trailer, which comes after the body, is dropped (RFC 9110, section 6.5.1).

        The parser, however, obeys one that closes the connection, and would then read the next request and not say so.
        White space after a value, which the parser leaves on it, is no part of it (RFC 9112, section 5.1).
        """
        if self._framing.in_head:
            super().on_header(name, value.rstrip(b" \t"))
        elif name.lower() in _OF_A_CONNECTION:
            raise HTTPException(400, "A trailer says nothing about the connection.")
        elif self._framing.trailer(len(name) + len(value)) > (most := self._state.settings.max_header_bytes):
            raise head_too_long(most)

    def on_headers_complete(self) -> None:
        """Choose the request's path."""
        self._version = self.parser.get_http_version()
        if self.parser.should_upgrade():
            self._offers_upgrade = True
            return
        headers = check_head(self.url, self.headers, self._version)
        path, _, query = self.url.partition(b"?")
        head = make_head(path.decode("latin-1"), headers, query)
        length = None if b"transfer-encoding" in headers else head.length or 0
        if len(self.connections) > self._state.settings.max_connections and path not in _OPEN:
            raise HTTPException(503, "There are too many connections.", {"Retry-After": "1"})
        method, expects = self.parser.get_method(), self.expect_100_continue
        if self._is_free() and not expects and is_common(method, self._version, head, self._state):
            self._arriving = self._new_request(head, b"", keep_alive=self.parser.should_keep_alive())
            self._framing.headers_complete(length)
            return
        url, pairs = self.url, self.headers
        expect = expects and self._version == "1.1"  # RFC 9110, section 10.1.1
        super().on_message_begin()
        self.scope["state"]["link"] = weakref.proxy(self)  # for streams
        self.url, self.expect_100_continue = url, expect
        self.headers += pairs  # the list that is in the scope already
        super().on_headers_complete()  # raises for a target that is no URL
        self._framing.headers_complete(length)
        if not self.pipeline:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._framing.body(len(body))
        if self._arriving is None:
            super().on_body(body)
            if self.pipeline and not self.flow.keep(len(body)):
                self._close_idle("memory")
        else:
            self._arriving.data += body

    def on_message_complete(self) -> None:
        """Start to answer a request of the fast path."""
        if self._offers_upgrade:
            return
        self._framing.message_complete()
        self._rest = 0
        self._last = self._last or not self.cycle.keep_alive
        request, self._arriving = self._arriving, None
        if request is None:
            super().on_message_complete()
        else:
            self._begin(request)

    def on_response_complete(self) -> None:
        """Continue with what follows on the connection. Unlike uvicorn's, this sets no timer for each answer."""
        self._watch.progress = self.loop.time()
        if self.transport.is_closing():
            self._last = True
            return
        if self.pipeline:
            self._running = self.pipeline[-1][0]
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.keep_only(len(self._unparsed))
            self.flow.resume_reading()
        if self._unparsed:
            self.loop.call_soon(self._resume)
        elif self._last:
            self._end()

    def shutdown(self) -> None:
        """Close the connection when all that has arrived whole on it is answered."""
        if self._turn() == "client" and self.loop.time() > self._watch.progress + LINGER_SECONDS:
            self._link.finish()  # the latest answer has long arrived
        elif not self._unparsed:
            self._end()

    def cut(self) -> None:
        """End a stream in the middle of its answer, so that its client sees that it is not whole."""
        self._leave()
        self.transport.close()

    def _resume(self) -> None:
        """Go on with what was held back."""
        if self._unparsed and not self.transport.is_closing():
            data, self._unparsed = self._unparsed, b""
            self.flow.let_go(len(data))
            self._parse(data)
            if not self._unparsed:
                self.flow.resume_reading()
                if self._state.health.draining:
                    self._end()

    def _end(self) -> None:
        """Answer what has arrived whole and then the refusal, if there is one; then close."""
        self._last = True
        if self._unanswered() == 0 and not self._unparsed:
            refusal, self._refusal = self._refusal, None
            if refusal is not None and not self.transport.is_closing():
                answer = refusal_answer(self._state, refusal, self.url.decode("latin-1"))
                self._write(answer, keep_alive=False, bare=self._is_bare)
            self.transport.close()

    def _refuse(self, refusal: HTTPException) -> None:
        """Answer what never became a request, after all that was asked before it, and close the connection."""
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._framing.in_body and self.cycle.response_complete:
            self.transport.close()  # a request has one answer, and this one has had it
            return
        if self._framing.in_body:
            self._abandon()
        self._refusal = refusal
        self._is_bare = not self._framing.between and self.url != b"" and self.parser.get_method() == b"HEAD"
        self._end()

    def _abandon(self) -> None:
        """Give up a request whose body will never be whole: to its application the client has left."""
        cycle, self._arriving = self.cycle, None
        if cycle is not None and not cycle.response_complete:
            if getattr(cycle, "response_started", False):
                self.transport.close()  # in the middle of an answer there is no room for another one
            cycle.response_complete = True
            cycle.disconnected = True
            cycle.message_event.set()
            self.pipeline = deque(each for each in self.pipeline if each[0] is not cycle)

    def _hold_back(self, data: bytes) -> None:
        """Keep what was read until requests before it are answered, and read no more. Without memory for it, close."""
        self._unparsed += data
        self.flow.hold()
        if not self.flow.keep(len(data)):
            self._close_idle("memory")

    def _drop(self, count: int) -> None:
        """Count bytes that nobody reads. A client that goes on sending them is not read, and then closed."""
        self._rest += count
        if self._rest > REST_BYTES:
            if self._unanswered() and not self.transport.is_closing():
                self.flow.hold()
            else:
                self._state.metrics.connection_closed("rest")
                self._link.finish()

    def _turn(self) -> Turn:
        """Whom the connection waits for."""
        if self._framing.in_body and not self.busy:
            return "body"
        return "client" if self._unanswered() == 0 else "server"

    def _close_idle(self, reason: Reason | None) -> None:
        if reason is None:
            self._link.finish()
        else:
            self._state.metrics.connection_closed(reason)
            self._leave()
            self.transport.abort()  # close() would wait until the client has read all answers

    def _leave(self) -> None:
        """Have every unanswered request know that its client has gone: a closed transport is not written to."""
        self._last = True
        self._unparsed = b""
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def _unanswered(self) -> int:
        """How many requests have begun to arrive on this connection and are not answered."""
        return len(self.pipeline) + (self._running is not None and not self._running.response_complete)

    def _is_free(self) -> bool:
        """Whether the connection is ready for a request on the fast path."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # pipelined: uvicorn keeps the order
        if self.flow.write_paused or self._last or self._unparsed:
            return False  # uvicorn waits until the client reads its answers; or other requests come first, or none
        return len(self.connections) <= self._state.settings.max_connections

    def _new_request(self, head: RequestHead, body: bytes, *, keep_alive: bool) -> FastPathRequest:
        request = FastPathRequest(self._state.admission, head, body, keep_alive=keep_alive)
        self.cycle = self._running = cast("RequestResponseCycle", request)
        return request

    def _begin(self, request: FastPathRequest, *, whole: bool = True) -> None:
        """Answer a whole request, at once when there is no room for it or for the rest of its body."""
        try:
            request.arrive() if whole else request.reserve()
        except VaeError as error:
            self._arriving = None
            self._send(request, request.verb.refuse(self._state, request.head, request, error))
            return
        if whole:
            self.tasks.add(cast("asyncio.Task[None]", request))
            request.begin(self._state, self._done)

    def _done(self, request: FastPathRequest, answer: Answer | None) -> None:
        self.tasks.discard(cast("asyncio.Task[None]", request))
        self._send(request, answer)

    def _send(self, request: FastPathRequest, answer: Answer | None) -> None:
        """Write the answer, if there is one and a client to read it."""
        if answer is not None and not request.disconnected:
            if self._state.health.draining:
                request.keep_alive = False
            self._write(answer, keep_alive=request.keep_alive)
            request.response_complete = True
        if not (request.response_complete and request.keep_alive):
            self.transport.close()
        self.on_response_complete()

    def _write(self, answer: Answer, *, keep_alive: bool, bare: bool = False) -> None:
        self.transport.write(answer.to_bytes(self.server_state.default_headers, keep_alive=keep_alive, bare=bare))
