"""Streams: a body of any number of images, answered line by line in the same order while it still arrives.

The body comes as NDJSON or as a multipart form; the answer is NDJSON (docs/streams.md). What has arrived is cut into
groups, which are read, computed and written like small batches, a few at a time. Nothing more is received while they
wait, so a client that sends faster than it reads, or than the service computes, is held back by TCP.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import orjson
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from service.api.answers import negotiate, preview_cost
from service.api.compression import body_codings
from service.api.context import RequestContext
from service.api.request_head import MULTIPART, NDJSON, STREAMS, RequestHead, media_type_of, read_head
from service.api.requests import SMALL_BYTES, read_options
from service.api.state import STREAM_GROUPS, AppState
from service.api.stream_bodies import Item
from service.api.stream_groups import Computed, ReadGroup, Rows, StreamForm
from service.api.stream_intake import Intake, pause
from service.errors import ClientGone, Overloaded
from service.inference.admission import Reservation
from service.inference.autoencoder import Noise, new_seed
from service.inference.engine import Floats

# The most images and bytes of a group; one item may have more bytes.
_GROUP_IMAGES: Final = 256
_GROUP_BYTES: Final = 2**20

# How many groups of one stream are read, computed, written or sent at a time: while one is, the next ones are prepared.
_GROUPS: Final = 3

# All groups that are computed hold at most these parts of VAE_QUEUE and of VAE_MEMORY_BYTES.
_QUEUE_SHARE: Final = 2
_MEMORY_SHARE: Final = 8

# Up to so many images, of so many values, a group takes less time than a hop to a thread and back.
_INLINE_IMAGES: Final = 16
_INLINE_PIXELS: Final = 64 * 64


class Link(Protocol):
    """What a stream tells the connection that it came on. Other ASGI servers have none."""

    busy: bool

    def cut(self) -> None:
        """Close the connection in the middle of the answer."""


def is_stream(head: RequestHead, gives: tuple[str, ...]) -> bool:
    """Whether a request is a stream: of NDJSON, or a multipart form that wants NDJSON before what the route `gives`."""
    with suppress(HTTPException):  # whoever answers the request finds the same
        media_type, _ = media_type_of(head)
        return media_type == NDJSON or (
            media_type == MULTIPART and negotiate(head.headers.get(b"accept", b""), (*gives, NDJSON)) == NDJSON
        )
    return False


async def answer_stream(
    state: AppState,
    head: RequestHead,
    request: RequestContext,
    rows: Rows,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Exception | None:
    """Answer a stream. Returns the error of one of which nothing has been sent: it is answered like any other's."""
    stream: _Stream | None = None
    failure: Exception | None = None
    try:
        state.keys.check(head.headers)
        stream = _Stream(state, head, request, rows, scope, send)
        await stream.run(receive)
    except asyncio.CancelledError:  # the server does this when a drain takes too long
        failure = Overloaded("The service stops before the stream is answered.", "draining")
    except Exception as error:  # the table has an answer for any
        failure = error
    finally:
        request.reservation.release()
    try:
        if stream is None or (failure is not None and not stream.begun):
            return failure
        await stream.end(failure)
        state.observer.observe(request, head.headers)
        return None
    finally:
        failure = None  # it refers to this frame


class _Stream:
    """One stream: a task that reads, tasks that compute a group each, and the one that sends."""

    def __init__(
        self,
        state: AppState,
        head: RequestHead,
        request: RequestContext,
        rows: Rows,
        scope: Scope,
        send: Send,
    ) -> None:
        """Check all that the head says. Raises HTTPException, InvalidInput, Unknown."""
        negotiate(head.headers.get(b"accept", b""), (NDJSON,))
        settings = state.settings
        said = read_head(head, STREAMS, NDJSON, math.inf, settings.deadline_ms / 1e3)
        said.body_codings = body_codings(head.headers.get(b"content-encoding", b""))
        if scope.get("http_version") == "1.0":
            raise HTTPException(505, "A stream needs HTTP/1.1: its answer has no length.")
        options = read_options(said.query, rows.options)
        model = state.registry.find(options.model)
        self._form = StreamForm(said, options, model, settings, request.request_id, request.route)
        self._noise: Noise | None = None
        self._headers = [(b"x-model", model.autoencoder.id.encode())]
        if options.sample:
            seed = new_seed() if options.seed is None else options.seed
            self._noise = Noise(seed)
            self._headers.append((b"x-seed", b"%d" % seed))
        self._state = state
        self._request = request
        self._compute = rows.compute
        self._send_message = send
        self._link: Link | None = scope["state"].get("link")
        in_queue = settings.queue // (_QUEUE_SHARE * STREAM_GROUPS)
        self._cost = model.autoencoder.cost
        if options.preview:
            self._cost += preview_cost(np.empty((1, *model.autoencoder.contract.image_shape), np.uint8))
        in_memory = settings.memory_bytes // (_MEMORY_SHARE * STREAM_GROUPS * self._cost)
        self._intake = Intake(state, request, said, max(1, min(_GROUP_IMAGES, settings.max_batch, in_queue, in_memory)))
        self._room = asyncio.Semaphore(_GROUPS)
        self._groups: asyncio.Queue[_Group | Exception | None] = asyncio.Queue()
        self._open: list[_Group] = []  # those that are not sent
        self._images = self._bytes_out = 0
        self.begun = False
        request.bytes_in = 0
        request.model = model.autoencoder.id

    async def run(self, receive: Receive) -> None:
        """Read, compute and send all but the end. Raises whatever ends the stream early, after what came before it."""
        request, reading = self._request, asyncio.create_task(self._read(receive))
        try:
            while (group := await self._groups.get()) is not None:
                if isinstance(group, Exception):
                    raise group
                lines, context = await group.task, group.context
                self._images += group.count
                request.read, request.queue, request.compute = context.read, context.queue, context.compute
                await self._send(lines)
                self._close(group)
        finally:
            group = None  # an exception refers to this frame, which must not refer to it
            tasks = [reading, *(group.task for group in self._open)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for group in list(self._open):
                self._close(group)

    async def end(self, failure: Exception | None) -> None:
        """Send the end of the answer; after a failure a line with the error, and cut the connection."""
        request = self._request
        try:
            status = await self._finish(failure)
        except asyncio.CancelledError:  # the server ends, and the client does not read
            status = 503
            self._cut()
        request.reservation = Reservation()  # its images came and went; what telemetry reads is how many they were
        request.reservation.hold_images(self._images)
        request.was_answered(status, self._bytes_out)
        request.write = max(0.0, request.write)

    async def _finish(self, failure: Exception | None) -> int:
        if failure is None:
            if not self.begun:
                await self._begin()
            await self._send_message({"type": "http.response.body", "body": b""})
            return 200
        self._request.rejection = getattr(failure, "rejection", "")
        status, error = self._form.problem(failure)
        await self._send(orjson.dumps({"error": error}, option=orjson.OPT_APPEND_NEWLINE))
        self._cut()
        return status

    def _cut(self) -> None:
        if self._link is not None:
            self._link.cut()

    async def _read(self, receive: Receive) -> None:
        """Receive the body and begin its groups. Then look whether the client goes."""
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                more = message.get("more_body", False)
                await self._intake.take(message.get("body", b""), self._begin_groups, last=not more)
            self._request.arrived = time.perf_counter()
            self._groups.put_nowait(None)
            while (await receive())["type"] != "http.disconnect":
                pass
            self._leave()
        except Exception as error:  # whoever sends raises it, in its turn
            if isinstance(error, ClientGone):
                self._leave()
            self._groups.put_nowait(error)

    async def _begin_groups(self, items: list[Item]) -> None:
        """Begin a group of these items, or more groups if they are long."""
        first = size = 0
        for index, item in enumerate(items):
            if size and size + item.size > _GROUP_BYTES:
                await self._begin_group(items[first:index])
                first, size = index, 0
            size += item.size
        if items:
            await self._begin_group(items[first:])

    async def _begin_group(self, items: list[Item]) -> None:
        await self._room.acquire()
        shape = (len(items), self._form.model.autoencoder.contract.latent_dim)
        group = _Group(items, None if self._noise is None else self._noise.draw(shape))
        group.task = asyncio.create_task(self._lines(group))
        self._open.append(group)
        self._groups.put_nowait(group)
        if self._link is not None:
            self._link.busy = True

    def _close(self, group: _Group) -> None:
        """The group is sent, or given up."""
        group.context.reservation.release()
        self._open.remove(group)
        self._room.release()
        if self._link is not None:
            self._link.busy = bool(self._open)

    def _leave(self) -> None:
        for group in self._open:
            group.context.gone = True

    async def _lines(self, group: _Group) -> bytes:
        """The lines of the answer to a group."""
        state, context = self._state, group.context
        async with state.streams:
            context.deadline = time.perf_counter() + self._form.said.timeout
            size = sum(item.size for item in group.items)
            read = await self._read_group(group, size)
            await self._decode(read, context)
            context.read = time.perf_counter() - context.arrived
            group.items.clear()
            self._request.reservation.hold_bytes(-size)
            computed: Computed = []
            if read.images is not None:
                eps = None if group.eps is None else group.eps[read.good]
                computed = await self._form.compute(self._compute, read.images, eps, context)
            if group.count <= _INLINE_IMAGES and (read.images is None or read.images[0].size <= _INLINE_PIXELS):
                content = self._form.write(read, computed)
            else:
                content = await state.run_in_thread(context, self._form.write, read, computed)
        context.reservation.release()
        context.reservation = Reservation(state.admission)
        context.reservation.count_bytes(len(content))  # until it is sent
        return content

    async def _read_group(self, group: _Group, size: int) -> ReadGroup:
        """Read a group of `size` bytes when there is room. Raises Overloaded if there is none until its deadline."""
        state, context, form = self._state, group.context, self._form
        quick = group.count <= _INLINE_IMAGES and size <= SMALL_BYTES
        while True:
            context.check()
            context.arrived = time.perf_counter()
            context.reservation = Reservation(state.admission)
            try:
                context.was_read(form.model.autoencoder.id, group.count, self._cost)
                if quick:
                    return form.read(group.items, context)
                return await state.run_in_thread(context, form.read, group.items, context)
            except Overloaded as error:
                context.reservation.release()
                await pause(context, error)

    async def _decode(self, read: ReadGroup, context: RequestContext) -> None:
        """Decode the pictures that wait, a few at a time: others get their turn, and the deadline begins anew."""
        while read.waiting:
            try:
                await self._state.run_in_thread(context, self._form.decode, read, context)
            except Overloaded as error:
                await pause(context, error)
            else:
                context.deadline = time.perf_counter() + self._form.said.timeout

    async def _begin(self) -> None:
        """Send the head of the answer."""
        self.begun = True
        self._request.status = 200
        await self._send_message(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", NDJSON.encode()),
                    (b"x-accel-buffering", b"no"),  # nginx then passes each line on at once
                    *self._headers,
                    *self._request.headers(),
                ],
            }
        )

    async def _send(self, content: bytes) -> None:
        if not self.begun:
            await self._begin()
        self._bytes_out += len(content)
        await self._send_message({"type": "http.response.body", "body": content, "more_body": True})


@dataclass(slots=True, eq=False)
class _Group:
    """Items that are read, computed and written together. `eps` is the noise of their draws."""

    items: list[Item]
    eps: Floats | None
    count: int = field(init=False)
    context: RequestContext = field(default_factory=RequestContext)
    task: asyncio.Task[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.items)
