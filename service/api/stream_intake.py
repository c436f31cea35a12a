"""The way of a stream's body into its groups: it is unpacked if it is compressed, and cut into items.

Memory is reserved for each piece before it is made. A piece is made when the groups of the one before have begun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException

from service.api.compression import CODINGS, PIECE_BYTES, SLICE_BYTES, UNPACKER_BYTES, Unpacker
from service.api.context import RequestContext
from service.api.request_head import NDJSON, RequestOptions
from service.api.state import AppState
from service.api.stream_bodies import ITEM_BYTES, Item, Items, Lines, Parts
from service.errors import Overloaded

# So much of a body is cut into items at a time: it may be nothing but line ends.
_CUT_BYTES: Final = 2**16

# Seconds after which what found no room looks again.
_PAUSE: Final = 0.01

# Begins the groups of some items. Waits for room for them.
Begin = Callable[[list[Item]], Awaitable[None]]


class Intake:
    """The body of one stream as it arrives."""

    def __init__(self, state: AppState, request: RequestContext, said: RequestOptions, most: int) -> None:
        """`said` is the head, and `most` the most items of a group. Raises HTTPException (400, 415)."""
        line_bytes = state.settings.max_body_bytes
        if len(said.body_codings) > 1:
            raise HTTPException(415, "A stream is compressed at most once.", {"Accept-Encoding": ", ".join(CODINGS)})
        self._state = state
        self._request = request
        self._timeout = said.timeout
        self._most = most
        self._coding = said.body_codings[0] if said.body_codings else None
        self._unpacker: Unpacker | None = None
        self._body: Items = Lines(line_bytes) if said.media_type == NDJSON else Parts(said.parameters, line_bytes)

    async def take(self, data: bytes, begin: Begin, *, last: bool) -> None:
        """Take a piece of the body, and begin the groups that end in it.

        Raises the failure of a body that breaks its own format, HTTPException and LimitExceeded for one that cannot be
        unpacked, and Overloaded when there is no memory until the deadline.
        """
        self._request.bytes_in += len(data)
        if self._coding is None:
            await self._take(data, begin)
        else:
            await self._unpack(data, self._coding, begin, last=last)
        del data
        if last:
            held = self._body.held
            ended = self._body.end()
            self._request.reservation.count_bytes(sum(item.size for item in ended) - held)
            await begin(ended)
        if self._body.failure is not None:
            try:
                raise self._body.failure
            finally:
                self._body.failure = None  # it refers to this frame

    async def _unpack(self, data: bytes, coding: str, begin: Begin, *, last: bool) -> None:
        request = self._request
        if self._unpacker is None:
            await self._hold(UNPACKER_BYTES[coding])
            self._unpacker = Unpacker(coding)
        for start in range(0, len(data), SLICE_BYTES):
            self._unpacker.feed(data[start : start + SLICE_BYTES])
            while not self._unpacker.is_done and self._body.failure is None:
                await self._hold(PIECE_BYTES)
                piece = await self._state.run_in_thread(request, self._unpacker.unpack)
                request.reservation.hold_bytes(len(piece) - PIECE_BYTES)
                await self._take(piece, begin)
                request.reservation.hold_bytes(-len(piece))
                del piece
        if last and self._body.failure is None:
            self._unpacker.end()

    async def _take(self, data: bytes, begin: Begin) -> None:
        items: list[Item] = []
        for start in range(0, len(data), _CUT_BYTES):
            items += await self._cut(data[start : start + _CUT_BYTES])
            while len(items) >= self._most:
                await begin(items[: self._most])
                del items[: self._most]
        await begin(items)

    async def _cut(self, data: bytes) -> list[Item]:
        """The items that end in a piece of the body; memory is reserved for them and for what has begun."""
        request, body = self._request, self._body
        most = len(data) + ITEM_BYTES * (data.count(b"\n") + 1)
        await self._hold(most)
        before = body.held
        if body.is_quick(data):
            items = body.feed(data)
        else:
            items = await self._state.run_in_thread(request, body.feed, data)
        request.reservation.hold_bytes(body.held + sum(item.size for item in items) - before - most)
        return items

    async def _hold(self, count: int) -> None:
        """Reserve memory when there is some. The deadline begins anew."""
        self._request.deadline = time.perf_counter() + self._timeout
        while True:
            try:
                self._request.reservation.hold_bytes(count)
                break
            except Overloaded as error:
                await pause(self._request, error)


async def pause(waiting: RequestContext, error: Overloaded) -> None:
    """Give others time to free what they hold. Raises the error when the deadline would pass meanwhile."""
    if time.perf_counter() + _PAUSE > waiting.deadline:
        raise error
    await asyncio.sleep(_PAUSE)
