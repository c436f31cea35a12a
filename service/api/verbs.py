"""The verbs over HTTP: from a request's head and body to an answer, for its time should go into pictures, not layers.

The common request comes straight from its connection (`wire.py`), every other one through ASGI: from `app.Service`,
before any router or middleware, or from FastAPI's routes of the same paths, which document them. So there is one
implementation, one set of schemas, and one table of errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from service.api.answers import IMAGE_TYPES, LATENT_TYPES, Answer, images_answer, latents_answer, negotiate
from service.api.error_handlers import error_answer
from service.api.middleware import identify, stamps
from service.api.requests import (
    IMAGE_BODIES,
    JSON,
    NPY,
    Body,
    Head,
    ImageBatch,
    Read,
    Terms,
    make_head,
    read_form,
    read_head,
    read_images,
    read_latents,
    read_quick_images,
    receive_body,
)
from service.api.schemas import SampleRequest
from service.api.state import Rooms
from service.contract import Contract
from service.errors import Overloaded
from service.images.codec import check_batch
from service.images.preprocess import Images
from service.inference.admission import Ticket
from service.inference.autoencoder import Posterior
from service.telemetry.record import Record

Work = Callable[[Rooms, Body, Ticket], Awaitable[Answer]]

# Up to here reading or writing takes less time than a hop to a thread and back, and other requests do not notice it.
_INLINE_BYTES: Final = 16 * 1024
_INLINE_IMAGES: Final = 16

# Why a request with this status was not worked on, in the metrics' words.
_REJECTED: Final = {499: "disconnected", 503: "queue_full", 504: "deadline"}


class Verb:
    """A POST route: negotiate, read, work, answer; whatever goes wrong is answered by the one table of errors."""

    def __init__(self, work: Work, takes: tuple[str, ...], gives: tuple[str, ...]) -> None:
        self._work = work
        self._takes = takes
        self._gives = gives

    async def answer(self, rooms: Rooms, head: Head, body: bytes | Read, ticket: Ticket) -> Answer:
        """Answer one request, whose body is here or can be read. Raises nothing."""
        try:
            rooms.keys.check(head.headers)
            terms = head.terms or self._agree(rooms, head)
            data = body if isinstance(body, bytes) else await body(rooms.settings.max_body_bytes)
            ticket.due_within(terms.timeout)
            answer = await self._work(rooms, Body(data, terms), ticket)
        except Exception as error:  # the table knows what to say of any
            answer = error_answer(error, ticket.request_id, head.path)
        finally:
            ticket.leave()
        return _finish(rooms, head, ticket, answer)

    def refusal(self, rooms: Rooms, head: Head, ticket: Ticket, error: Overloaded) -> Answer:
        """The answer to a request that comes when the queue is full."""
        return _finish(rooms, head, ticket, error_answer(error, ticket.request_id, head.path))

    def _agree(self, rooms: Rooms, head: Head) -> Terms:
        answer_type = negotiate(head.headers.get(b"accept", b""), self._gives)
        head.terms = read_head(head, self._takes, answer_type, rooms.settings.max_body_bytes)
        return head.terms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an ASGI application."""
        state = scope["state"]
        state["counted"] = True
        rooms: Rooms = state["rooms"]
        headers = dict(scope["headers"])
        head = make_head(scope["path"], headers, scope["query_string"])
        ticket = Ticket(rooms.admission, state.get("request_id") or identify(headers))
        watch: asyncio.Task[None] | None = None

        async def read(max_bytes: int) -> bytes:
            nonlocal watch
            data = await receive_body(receive, ticket, max_bytes)
            ticket.arrive()
            watch = asyncio.create_task(_watch(receive, ticket))
            return data

        try:
            answer = await self.answer(rooms, head, read, ticket)
        finally:
            if watch is not None:
                watch.cancel()
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
        await send({"type": "http.response.body", "body": answer.content})


def _finish(rooms: Rooms, head: Head, ticket: Ticket, answer: Answer) -> Answer:
    """Stamp the answer, and count, log and trace its request."""
    seconds = ticket.was_answered()
    status, images = answer.status, ticket.images
    answer.headers += stamps(ticket)
    if status == 200:
        rooms.metrics.answered(
            head.path, ticket.model, images, seconds, ticket.decode, ticket.queue, ticket.compute, ticket.encode
        )
    else:
        rooms.metrics.request(head.path, "POST", status, seconds)
        if status in _REJECTED:
            rooms.metrics.rejected(_REJECTED[status])
    if rooms.request_log is not None or rooms.tracing is not None:
        record = Record(
            ticket.request_id, "POST", head.path, status, ticket.model or None, images,
            head.length or 0, len(answer.content),
            seconds, ticket.decode, ticket.queue, ticket.compute, ticket.encode,
        )  # fmt: skip
        if rooms.request_log is not None:
            rooms.request_log.write(record)
        if rooms.tracing is not None:
            rooms.tracing.request(head.headers, record)
    return answer


async def _watch(receive: Receive, ticket: Ticket) -> None:
    """Note when the client goes: what is not begun by then need not be."""
    while (await receive())["type"] != "http.disconnect":
        pass
    ticket.gone = True


async def _encode(rooms: Rooms, body: Body, ticket: Ticket) -> Answer:
    batch = await _read_images(rooms, body, ticket)
    autoencoder, options = batch.model.autoencoder, batch.options
    posterior = await autoencoder.encode(batch.images, ticket, sample=options.sample, seed=options.seed)
    arrays = (posterior.mu, posterior.logvar) + (() if posterior.z is None else (posterior.z,))
    return latents_answer(body.terms.answer_type, autoencoder.contract, _latents(posterior), arrays)


async def _reconstruct(rooms: Rooms, body: Body, ticket: Ticket) -> Answer:
    batch = await _read_images(rooms, body, ticket)
    autoencoder, options = batch.model.autoencoder, batch.options
    result = await autoencoder.reconstruct(batch.images, ticket, sample=options.sample, seed=options.seed)
    fields = {**_latents(result.posterior), "mse": result.mse}
    return await _images(rooms, ticket, body.terms.answer_type, autoencoder.contract, result.images, fields)


async def _sample(rooms: Rooms, body: Body, ticket: Ticket) -> Answer:
    form = await _off_loop_if_large(rooms, ticket, body, read_form, body, SampleRequest)
    check_batch(form.n, rooms.settings.max_batch, "n")
    autoencoder = rooms.registry.find(form.model).autoencoder
    ticket.was_read(autoencoder.id, form.n)
    result = await autoencoder.sample(
        form.n, ticket, seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    fields = {"z": result.z, "seed": result.seed, "prior": result.prior}
    return await _images(rooms, ticket, body.terms.answer_type, autoencoder.contract, result.images, fields)


async def _decode(rooms: Rooms, body: Body, ticket: Ticket) -> Answer:
    model, z = await _off_loop_if_large(rooms, ticket, body, read_latents, body, rooms.registry, rooms.settings)
    ticket.was_read(model.autoencoder.id, len(z))
    images = await model.autoencoder.decode(z, ticket)
    return await _images(rooms, ticket, body.terms.answer_type, model.autoencoder.contract, images, {})


encode = Verb(_encode, IMAGE_BODIES, LATENT_TYPES)
reconstruct = Verb(_reconstruct, IMAGE_BODIES, IMAGE_TYPES)
sample = Verb(_sample, (JSON,), IMAGE_TYPES)
decode = Verb(_decode, (JSON,), IMAGE_TYPES)

VERBS: Final[Mapping[str, Verb]] = {
    "/encode": encode,
    "/reconstruct": reconstruct,
    "/sample": sample,
    "/decode": decode,
}


async def _read_images(rooms: Rooms, body: Body, ticket: Ticket) -> ImageBatch:
    batch = None
    if len(body.data) <= _INLINE_BYTES or body.terms.media_type == NPY:
        batch = read_quick_images(body, rooms.registry, rooms.settings, ticket)
    if batch is None:
        batch = await rooms.off_loop(ticket, read_images, body, rooms.registry, rooms.settings, ticket)
    ticket.was_read(batch.model.autoencoder.id, len(batch.images))
    return batch


async def _images(
    rooms: Rooms, ticket: Ticket, media_type: str, contract: Contract, images: Images, fields: Mapping[str, Any]
) -> Answer:
    if len(images) <= _INLINE_IMAGES and images[0].size <= 4096:
        return images_answer(media_type, contract, images, fields)
    return await rooms.off_loop(ticket, images_answer, media_type, contract, images, fields)


async def _off_loop_if_large(
    rooms: Rooms, ticket: Ticket, body: Body, work: Callable[..., Any], *arguments: object
) -> Any:
    if len(body.data) <= _INLINE_BYTES:
        return work(*arguments)
    return await rooms.off_loop(ticket, work, *arguments)


def _latents(posterior: Posterior) -> dict[str, Any]:
    fields: dict[str, Any] = {"mu": posterior.mu, "logvar": posterior.logvar}
    if posterior.z is not None:
        fields |= {"z": posterior.z, "seed": posterior.seed}
    return fields
