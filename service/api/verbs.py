"""The verbs over HTTP: from a request's head and body to its answer.

The common request comes straight from its connection (`wire.py`), every other one through ASGI: from `app.Service`,
before any router or middleware, or from FastAPI's routes of the same paths, which document them. There is one
implementation for all, one set of schemas, and one table of errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from service.api.answers import (
    IMAGE_TYPES,
    LATENT_TYPES,
    Answer,
    base64_pngs,
    images_answer,
    latents_answer,
    negotiate,
    preview_cost,
)
from service.api.context import RequestContext, request_id_of
from service.api.embeddings import embeddings_answer, parse_embeddings
from service.api.error_handlers import error_answer
from service.api.points import WalkForm, parse_interpolation, parse_traversal
from service.api.request_head import (
    IMAGE_BODIES,
    JSON,
    LATENT_BODIES,
    NPY,
    SEVERAL_BODIES,
    RequestHead,
    RequestOptions,
    header_map,
    make_head,
    read_head,
)
from service.api.requests import (
    SMALL_BYTES,
    Body,
    ImageForm,
    Options,
    Read,
    decode_images,
    parse_images,
    quick_images,
    read_latents,
    read_sample,
    receive_body,
)
from service.api.schemas import ImageOptions, ImageRequest, ScoreOptions, ScoreRequest
from service.api.state import AppState
from service.api.stream_groups import Compute, encode_rows, reconstruct_rows
from service.api.streams import answer_stream, is_stream
from service.contract import Contract
from service.errors import LimitExceeded, Overloaded, VaeError
from service.images.codec import check_batch
from service.images.preprocess import Images
from service.inference.admission import Reservation
from service.inference.autoencoder import Posterior
from service.inference.registry import Registry
from service.settings import Settings

Work = Callable[[AppState, Body, RequestContext], Awaitable[Answer]]
ParseImages = Callable[[Body, Registry, Settings, Reservation], ImageForm[Options]]

_parse_images: Final = partial(parse_images, options=ImageOptions, request=ImageRequest)
_parse_scored: Final = partial(parse_images, options=ScoreOptions, request=ScoreRequest)

# Up to so many images an answer takes less time than a hop to a thread and back.
_INLINE_IMAGES: Final = 16

# The same for the numbers in the latents of a walk.
_INLINE_NUMBERS: Final = 4096


class Verb:
    """A POST route: negotiate, read, work, answer. The one table of errors answers whatever goes wrong."""

    def __init__(
        self,
        work: Work,
        takes: tuple[str, ...],
        gives: tuple[str, ...],
        template: str = "",
        compute: Compute | None = None,
    ) -> None:
        """`compute` is for streams, where the route takes them."""
        self._work = work
        self._takes = takes
        self._gives = gives
        self._template = template
        self._compute = compute

    def route_of(self, path: str) -> str:
        """The route's template for a request to `path`, which metrics and logs name."""
        return self._template or path

    async def answer(self, state: AppState, head: RequestHead, body: bytes | Read, request: RequestContext) -> Answer:
        """Answer one request, whose body is here or can be read. Raises nothing."""
        try:
            state.keys.check(head.headers)
            options = head.options or self._negotiate(state, head)
            if isinstance(body, bytes):
                if len(body) > SMALL_BYTES and not request.reservation.bytes:
                    request.reservation.hold_bytes(len(body))
                content = Body(body, options)
            else:
                content = Body(await body(state.settings.max_body_bytes), options)
            body = b""  # what parses the content is the last to hold it
            request.deadline = request.arrived + options.timeout
            answer = await self._work(state, content, request)
        except asyncio.CancelledError:  # the server does this when a drain takes too long
            answer = _refuse(Overloaded("The service stops before the answer is ready.", "draining"), request)
        except Exception as error:  # the table has an answer for any
            answer = _refuse(error, request)
        finally:
            request.reservation.release()
        return self._finish(state, head, request, answer)

    def is_streamed(self, head: RequestHead) -> bool:
        """Whether a request with this head is a stream, which is answered through ASGI."""
        return self._compute is not None and is_stream(head, self._gives)

    def refuse(self, state: AppState, head: RequestHead, request: RequestContext, error: VaeError) -> Answer:
        """The answer to a request that is not even begun."""
        return self._finish(state, head, request, _refuse(error, request))

    def _finish(self, state: AppState, head: RequestHead, request: RequestContext, answer: Answer) -> Answer:
        """Add the headers of every answer, and have the request observed."""
        request.was_answered(answer.status, len(answer.content))
        answer.headers += request.headers()
        state.observer.observe(request, head.headers)
        return answer

    def _negotiate(self, state: AppState, head: RequestHead) -> RequestOptions:
        answer_type = negotiate(head.headers.get(b"accept", b""), self._gives)
        head.options = read_head(
            head, self._takes, answer_type, state.settings.max_body_bytes, state.settings.deadline_ms / 1e3
        )
        return head.options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an ASGI application."""
        state: AppState = scope["state"]["app_state"]
        head = make_head(scope["path"], header_map(scope["headers"]), scope["query_string"])
        request: RequestContext | None = scope["state"].get("request")  # of the middleware, where there was any
        if request is None:
            request = RequestContext(request_id_of(head.headers))
        request.begin_verb(self.route_of(head.path), state.admission, head.length or 0)
        if self._compute is not None and is_stream(head, self._gives):
            error = await answer_stream(state, head, request, self._compute, scope, receive, send)
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


async def _encode(state: AppState, body: Body, request: RequestContext) -> Answer:
    form, images = await _read_images(state, body, request, _parse_images)
    autoencoder, options = form.model.autoencoder, form.options
    posterior = await autoencoder.encode(images, request, sample=options.sample, seed=options.seed)
    arrays = (posterior.mu, posterior.logvar) + (() if posterior.z is None else (posterior.z,))
    fields = _latents(posterior)
    if form.found or options.preview:
        fields |= await _seen(state, body, request, form, images)
    return latents_answer(body.options.answer_type, autoencoder.contract, fields, arrays)


async def _reconstruct(state: AppState, body: Body, request: RequestContext) -> Answer:
    form, images = await _read_images(state, body, request, _parse_images)
    autoencoder, options = form.model.autoencoder, form.options
    result = await autoencoder.reconstruct(images, request, sample=options.sample, seed=options.seed)
    fields = {**_latents(result.posterior), "mse": result.mse}
    if form.found or options.preview:
        fields |= await _seen(state, body, request, form, images)
    return await _images(state, request, body.options.answer_type, autoencoder.contract, result.images, fields)


async def _score(state: AppState, body: Body, request: RequestContext) -> Answer:
    form, images = await _read_images(state, body, request, _parse_scored)
    fields = await _seen(state, body, request, form, images) if form.found or form.options.preview else {}
    autoencoder, k, seed = form.model.autoencoder, form.options.k, form.options.seed
    if k is not None:
        draws = len(images) * k
        if draws > state.settings.max_batch:
            sentence = f"{draws} draws; at most {state.settings.max_batch} are allowed, of all images together."
            raise LimitExceeded(sentence, ("k",))
        request.was_read(autoencoder.id, draws, autoencoder.cost)
    result = await autoencoder.score(images, request, k=k, seed=seed)
    arrays = {name: getattr(result, name) for name in ("distortion", "rate", "elbo", "typicality")}
    if result.log_likelihood is not None:
        arrays["log_likelihood"] = result.log_likelihood
        fields |= {"k": k, "seed": result.seed}
    return latents_answer(body.options.answer_type, autoencoder.contract, arrays | fields, tuple(arrays.values()))


async def _sample(state: AppState, body: Body, request: RequestContext) -> Answer:
    form = await _off_loop_if_large(state, request, body, read_sample, body, request.reservation)
    check_batch(form.n, state.settings.max_batch, "n")
    autoencoder = state.registry.find(form.model).autoencoder
    request.was_read(autoencoder.id, form.n, autoencoder.cost)
    result = await autoencoder.sample(
        form.n, request, seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    fields = {"z": result.z, "seed": result.seed, "prior": result.prior}
    return await _images(state, request, body.options.answer_type, autoencoder.contract, result.images, fields)


async def _decode(state: AppState, body: Body, request: RequestContext) -> Answer:
    model, z = await _off_loop_if_large(
        state, request, body, read_latents, body, state.registry, state.settings, request.reservation
    )
    request.was_read(model.autoencoder.id, len(z), model.autoencoder.cost)
    images = await model.autoencoder.decode(z, request)
    return await _images(state, request, body.options.answer_type, model.autoencoder.contract, images, {})


async def _walk(
    parse: Callable[[Body, Registry, Settings, Reservation], WalkForm],
    state: AppState,
    body: Body,
    request: RequestContext,
) -> Answer:
    """Interpolate or traverse: encode the points if they are images, walk from them, and decode what is met."""
    settings, reservation = state.settings, request.reservation
    small = len(body.data) <= SMALL_BYTES or body.options.media_type == NPY
    form = await _off_loop_unless(small, state, request, parse, body, state.registry, settings, reservation)
    points, fields = form.points, form.fields
    autoencoder, z = points.model.autoencoder, points.z
    if z is None:
        images = await images_of(state, request, points.pictures, quick=small)
        request.was_read(autoencoder.id, form.frames, autoencoder.cost)
        fields["mu"] = z = (await autoencoder.encode(images, request)).mu
        fields |= await _seen(state, body, request, points.pictures, images)
    else:
        request.was_read(autoencoder.id, form.frames, autoencoder.cost)
    few = form.frames * z.shape[1] <= _INLINE_NUMBERS
    fields["z"] = frames = await _off_loop_unless(few, state, request, form.walk.place, z)
    decoded = await autoencoder.decode_walk(frames, form.walk, request, given=points.name)
    return await _images(
        state, request, body.options.answer_type, autoencoder.contract, decoded, fields, columns=form.columns
    )


async def _embed(state: AppState, body: Body, request: RequestContext) -> Answer:
    form, images = await _read_images(state, body, request, parse_embeddings)
    autoencoder = form.model.autoencoder
    mu = (await autoencoder.encode(images, request)).mu
    answer: Answer = await _off_loop_unless(
        len(mu) <= _INLINE_IMAGES, state, request,
        embeddings_answer, autoencoder.id, mu, form.options.encoding_format, request.reservation,
    )  # fmt: skip
    return answer


encode = Verb(_encode, IMAGE_BODIES, LATENT_TYPES, compute=encode_rows)
reconstruct = Verb(_reconstruct, IMAGE_BODIES, IMAGE_TYPES, compute=reconstruct_rows)
score = Verb(_score, IMAGE_BODIES, LATENT_TYPES)
sample = Verb(_sample, (JSON,), IMAGE_TYPES)
decode = Verb(_decode, LATENT_BODIES, IMAGE_TYPES)
interpolate = Verb(partial(_walk, parse_interpolation), SEVERAL_BODIES, IMAGE_TYPES)
traverse = Verb(partial(_walk, parse_traversal), IMAGE_BODIES, IMAGE_TYPES)
embeddings = Verb(_embed, (JSON,), (JSON,))

VERBS: Final[Mapping[str, Verb]] = {
    "/encode": encode,
    "/reconstruct": reconstruct,
    "/score": score,
    "/sample": sample,
    "/decode": decode,
    "/interpolate": interpolate,
    "/traverse": traverse,
    "/v1/embeddings": embeddings,
}


async def _read_images(
    state: AppState, body: Body, request: RequestContext, parse: ParseImages[Options]
) -> tuple[ImageForm[Options], Images]:
    settings, reservation = state.settings, request.reservation
    small = len(body.data) <= SMALL_BYTES or body.options.media_type == NPY
    if small:
        form = parse(body, state.registry, settings, reservation)
    else:
        form = await state.run_in_thread(request, parse, body, state.registry, settings, reservation)
    images = await images_of(state, request, form, quick=small)
    autoencoder = form.model.autoencoder
    request.was_read(autoencoder.id, len(images), autoencoder.cost)
    return form, images


async def images_of(state: AppState, request: RequestContext, form: ImageForm[Any], *, quick: bool) -> Images:
    """The images of a form, decoded: on the event loop if they are `quick` to look at and to decode, else in a thread.

    Raises InvalidInput, LimitExceeded, Overloaded.
    """
    images = quick_images(form, state.settings) if quick else None
    if images is None:
        images = await state.run_in_thread(request, decode_images, form, state.settings, request.reservation)
    return images


async def _seen(
    state: AppState, body: Body, request: RequestContext, form: ImageForm[Options], images: Images
) -> dict[str, Any]:
    """Fields of JSON: where digits were found, and with `preview` what the model saw. Memory for that is reserved."""
    if body.options.answer_type != JSON:
        return {}
    fields: dict[str, Any] = {"found": form.found} if any(form.found) else {}
    if form.options.preview:
        request.reservation.hold_bytes(preview_cost(images))
        if _is_small(images):
            fields["preview"] = base64_pngs(images)
        else:
            fields["preview"] = await state.run_in_thread(request, base64_pngs, images)
    return fields


async def _images(
    state: AppState,
    request: RequestContext,
    media_type: str,
    contract: Contract,
    images: Images,
    fields: Mapping[str, Any],
    columns: int | None = None,
) -> Answer:
    if _is_small(images):
        return images_answer(media_type, contract, images, fields, columns)
    return await state.run_in_thread(request, images_answer, media_type, contract, images, fields, columns)


def _is_small(images: Images) -> bool:
    return len(images) <= _INLINE_IMAGES and images[0].size <= 4096


async def _off_loop_if_large(
    state: AppState, request: RequestContext, body: Body, work: Callable[..., Any], *arguments: object
) -> Any:
    return await _off_loop_unless(len(body.data) <= SMALL_BYTES, state, request, work, *arguments)


async def _off_loop_unless(
    quick: bool, state: AppState, request: RequestContext, work: Callable[..., Any], *arguments: object
) -> Any:
    return work(*arguments) if quick else await state.run_in_thread(request, work, *arguments)


def _latents(posterior: Posterior) -> dict[str, Any]:
    fields: dict[str, Any] = {"mu": posterior.mu, "logvar": posterior.logvar}
    if posterior.z is not None:
        fields |= {"z": posterior.z, "seed": posterior.seed}
    return fields
