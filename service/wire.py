"""uvicorn's HTTP protocol with a short way for the verbs: from the bytes on a connection to the verb and back.

For each request an ASGI server makes a scope, a cycle, an event, messages and two writes; together they cost more than
all of a digit's own work. The short way shares uvicorn's parser, connection and shutdown, but the request goes to the
verb as soon as its last byte is here, and the answer leaves in one write. It is for the common request: a POST to a
verb, HTTP/1.1, of at most `SHORT_BYTES`, with nothing unanswered before it. Every other request goes uvicorn's way,
through ASGI, and if it is for a verb it ends at the very same one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api.middleware import identify
from service.api.requests import Head
from service.api.verbs import VERBS, Verb

# A longer body comes in many pieces, and so much work is in it that its way here does not matter.
SHORT_BYTES: Final = 64 * 1024

_VERBS: Final = {path.encode("ascii"): verb for path, verb in VERBS.items()}


class Exchange:
    """One request on the short way. To uvicorn's protocol it is a cycle, with an event that nobody waits for."""

    __slots__ = ("body", "disconnected", "head", "keep_alive", "more_body", "response_complete", "verb")

    def __init__(self, verb: Verb, head: Head, *, keep_alive: bool) -> None:
        self.verb = verb
        self.head = head
        self.body = bytearray()
        self.more_body = True
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    async def read(self, _: int) -> bytes:
        """The body, which is here already and within any limit on it: its length was announced and found short."""
        return bytes(self.body)

    @property
    def message_event(self) -> Exchange:
        """What uvicorn tells that there is news for the application."""
        return self

    def set(self) -> None:
        """Take no notice."""


class Protocol(HttpToolsProtocol):
    """One connection. The methods are httptools' callbacks, as uvicorn overrides them."""

    _arriving: Exchange | None = None

    def on_headers_complete(self) -> None:
        """Choose the request's way."""
        path, _, query = self.url.partition(b"?")
        verb = _VERBS.get(path)
        headers = dict(self.headers)
        if verb is None or not self._is_short(headers):
            super().on_headers_complete()
            return
        head = Head(path.decode("ascii"), headers, query, identify(headers))
        self._arriving = Exchange(verb, head, keep_alive=self.parser.should_keep_alive())
        self.cycle = cast("RequestResponseCycle", self._arriving)

    def on_message_complete(self) -> None:
        """Have a request on the short way answered."""
        super().on_message_complete()
        if self._arriving is not None:
            self.tasks.add(self.loop.create_task(self._answer(self._arriving)))
            self._arriving = None

    def _is_short(self, headers: Mapping[bytes, bytes]) -> bool:
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # pipelined: uvicorn keeps the order
        if self.flow.write_paused:
            return False  # the client does not read its answers: uvicorn waits until it does
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        if self.expect_100_continue or parser.should_upgrade():
            return False
        length = headers.get(b"content-length", b"")
        return length.isdigit() and int(length) <= SHORT_BYTES

    async def _answer(self, exchange: Exchange) -> None:
        try:
            answer = await exchange.verb.answer(self.app_state["rooms"], exchange.head, exchange.read)
            if exchange.disconnected:
                return
            parts = [STATUS_LINE[answer.status]]
            for name, value in (*self.server_state.default_headers, *answer.all_headers()):
                parts += (name, b": ", value, b"\r\n")
            if not exchange.keep_alive:
                parts.append(b"connection: close\r\n")
            parts += (b"\r\n", answer.content)
            self.transport.write(b"".join(parts))
            exchange.response_complete = True
        finally:
            self.tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            if not (exchange.response_complete and exchange.keep_alive):
                self.transport.close()
            self.on_response_complete()
