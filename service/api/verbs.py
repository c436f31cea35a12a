"""The verbs over HTTP: each POST route as a bare ASGI application, for its time should go into pictures, not layers.

`app.Service` calls these before any router or middleware; FastAPI's routes of the same paths lead here too and document
them. So there is one implementation, one set of schemas, and one table of errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
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
    read_body,
    read_form,
    read_images,
    read_latents,
    read_quick_images,
    receive_body,
)
from service.api.schemas import SampleRequest
from service.api.state import Rooms
from service.autoencoder import Posterior
from service.batcher import Timing
from service.codec import Images, check_batch
from service.contract import Contract

Work = Callable[[Rooms, Body, str, Timing], Awaitable[Answer]]

# Up to here reading or writing takes less time than a hop to a thread and back, and other requests do not notice it.
_INLINE_BYTES: Final = 16 * 1024
_INLINE_IMAGES: Final = 16


class Verb:
    """A POST route: negotiate, read, work, answer; whatever goes wrong is answered by the one table of errors."""

    def __init__(self, work: Work, takes: tuple[str, ...], gives: tuple[str, ...]) -> None:
        self._work = work
        self._takes = takes
        self._gives = gives

    async def answer(self, rooms: Rooms, head: Head, read: Callable[[int], Awaitable[bytes]]) -> Answer:
        """Answer one request, whose body `read(max_bytes)` gives. Raises nothing."""
        timing = Timing()
        try:
            media_type = negotiate(head.headers.get(b"accept", b""), self._gives)
            body = await read_body(head, read, self._takes, rooms.settings.max_body_bytes)
            answer = await self._work(rooms, body, media_type, timing)
        except Exception as error:  # the table knows what to say of any
            answer = error_answer(error, head.request_id, head.path)
        answer.headers += stamps(head.request_id, timing)
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an ASGI application."""
        state = scope["state"]
        headers = dict(scope["headers"])
        head = Head(scope["path"], headers, scope["query_string"], state.get("request_id") or identify(headers))
        answer = await self.answer(state["rooms"], head, partial(receive_body, receive))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
        await send({"type": "http.response.body", "body": answer.content})


async def _encode(rooms: Rooms, body: Body, media_type: str, timing: Timing) -> Answer:
    batch = await _read_images(rooms, body)
    autoencoder, options = batch.model.autoencoder, batch.options
    posterior = await autoencoder.encode(batch.images, timing, sample=options.sample, seed=options.seed)
    arrays = (posterior.mu, posterior.logvar) + (() if posterior.z is None else (posterior.z,))
    return latents_answer(media_type, autoencoder.contract, _latents(posterior), arrays)


async def _reconstruct(rooms: Rooms, body: Body, media_type: str, timing: Timing) -> Answer:
    batch = await _read_images(rooms, body)
    autoencoder, options = batch.model.autoencoder, batch.options
    result = await autoencoder.reconstruct(batch.images, timing, sample=options.sample, seed=options.seed)
    fields = {**_latents(result.posterior), "mse": result.mse}
    return await _images(rooms, media_type, autoencoder.contract, result.images, fields)


async def _sample(rooms: Rooms, body: Body, media_type: str, timing: Timing) -> Answer:
    form = await _off_loop_if_large(rooms, body, read_form, body, SampleRequest)
    check_batch(form.n, rooms.settings.max_batch, "n")
    autoencoder = rooms.registry.find(form.model).autoencoder
    result = await autoencoder.sample(
        form.n, timing, seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    fields = {"z": result.z, "seed": result.seed, "prior": result.prior}
    return await _images(rooms, media_type, autoencoder.contract, result.images, fields)


async def _decode(rooms: Rooms, body: Body, media_type: str, timing: Timing) -> Answer:
    model, z = await _off_loop_if_large(rooms, body, read_latents, body, rooms.registry, rooms.settings)
    images = await model.autoencoder.decode(z, timing)
    return await _images(rooms, media_type, model.autoencoder.contract, images, {})


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


async def _read_images(rooms: Rooms, body: Body) -> ImageBatch:
    if len(body.data) <= _INLINE_BYTES or body.media_type == NPY:
        batch = read_quick_images(body, rooms.registry, rooms.settings)
        if batch is not None:
            return batch
    return await rooms.off_loop(read_images, body, rooms.registry, rooms.settings)


async def _images(
    rooms: Rooms, media_type: str, contract: Contract, images: Images, fields: Mapping[str, Any]
) -> Answer:
    if len(images) <= _INLINE_IMAGES and images[0].size <= 4096:
        return images_answer(media_type, contract, images, fields)
    return await rooms.off_loop(images_answer, media_type, contract, images, fields)


async def _off_loop_if_large(rooms: Rooms, body: Body, work: Callable[..., Any], *arguments: object) -> Any:
    if len(body.data) <= _INLINE_BYTES:
        return work(*arguments)
    return await rooms.off_loop(work, *arguments)


def _latents(posterior: Posterior) -> dict[str, Any]:
    fields: dict[str, Any] = {"mu": posterior.mu, "logvar": posterior.logvar}
    if posterior.z is not None:
        fields |= {"z": posterior.z, "seed": posterior.seed}
    return fields
