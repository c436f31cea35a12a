"""The verbs over HTTP: what each of them does between a request's body and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from service.api.answers import (
    IMAGE_TYPES,
    LATENT_TYPES,
    Answer,
    base64_pngs,
    images_answer,
    latents_answer,
    preview_cost,
)
from service.api.context import RequestContext
from service.api.embeddings import embeddings_answer, parse_embeddings
from service.api.points import WalkForm, parse_interpolation, parse_traversal
from service.api.request_head import IMAGE_BODIES, JSON, LATENT_BODIES, NPY, SEVERAL_BODIES
from service.api.requests import (
    SMALL_BYTES,
    Body,
    ImageForm,
    Options,
    decode_images,
    parse_images,
    quick_images,
    read_latents,
    read_sample,
)
from service.api.schemas import (
    ImageOptions,
    ImageRequest,
    ReconstructOptions,
    ReconstructRequest,
    ScoreOptions,
    ScoreRequest,
)
from service.api.state import AppState
from service.api.stream_groups import ENCODED, RECONSTRUCTED
from service.api.verb import Verb
from service.contract import Contract
from service.errors import LimitExceeded
from service.images.codec import check_batch
from service.images.preprocess import Images
from service.inference.admission import Reservation
from service.inference.autoencoder import Posterior
from service.inference.registry import Registry
from service.settings import Settings

ParseImages = Callable[[Body, Registry, Settings, Reservation], ImageForm[Options]]

_parse_images: Final = partial(parse_images, options=ImageOptions, request=ImageRequest)
_parse_reconstructed: Final = partial(parse_images, options=ReconstructOptions, request=ReconstructRequest)
_parse_scored: Final = partial(parse_images, options=ScoreOptions, request=ScoreRequest)

# Up to so many images an answer takes less time than a hop to a thread and back.
_INLINE_IMAGES: Final = 16

# The same for the numbers in the latents of a walk.
_INLINE_NUMBERS: Final = 4096


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
    form, images = await _read_images(state, body, request, _parse_reconstructed)
    autoencoder, options = form.model.autoencoder, form.options
    result = await autoencoder.reconstruct(images, request, sample=options.sample, seed=options.seed)
    fields = {**_latents(result.posterior), "mse": result.mse}
    if form.found or options.preview:
        fields |= await _seen(state, body, request, form, images)
    return await _images(
        state, request, body.options.answer_type, autoencoder.contract, result.images, fields, options.sharpness
    )


async def _score(state: AppState, body: Body, request: RequestContext) -> Answer:
    form, images = await _read_images(state, body, request, _parse_scored)
    fields = await _seen(state, body, request, form, images) if form.found or form.options.preview else {}
    autoencoder, k, seed = form.model.autoencoder, form.options.k, form.options.seed
    if k is not None:
        request.was_read(autoencoder.id, draws(len(images), k, state.settings.max_batch), autoencoder.cost)
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
    sharpness = autoencoder.contract.sharpness if form.sharpness is None else form.sharpness
    fields = {
        "z": result.z,
        "seed": result.seed,
        "prior": result.prior,
        "temperature": result.temperature,
        "sharpness": sharpness,
    }
    return await _images(
        state, request, body.options.answer_type, autoencoder.contract, result.images, fields, sharpness
    )


async def _decode(state: AppState, body: Body, request: RequestContext) -> Answer:
    model, z, sharpness = await _off_loop_if_large(
        state, request, body, read_latents, body, state.registry, state.settings, request.reservation
    )
    request.was_read(model.autoencoder.id, len(z), model.autoencoder.cost)
    images = await model.autoencoder.decode(z, request)
    return await _images(state, request, body.options.answer_type, model.autoencoder.contract, images, {}, sharpness)


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
        state, request, body.options.answer_type, autoencoder.contract, decoded, fields, form.sharpness, form.columns
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


encode = Verb(_encode, IMAGE_BODIES, LATENT_TYPES, rows=ENCODED)
reconstruct = Verb(_reconstruct, IMAGE_BODIES, IMAGE_TYPES, rows=RECONSTRUCTED)
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


def draws(images: int, k: int | None, max_batch: int) -> int:
    """How many images to score so many are worth, with `k` draws of each or none. Raises LimitExceeded."""
    count = images * (k or 1)
    if k is not None and count > max_batch:
        raise LimitExceeded(f"{count} draws; at most {max_batch} are allowed, of all images together.", ("k",))
    return count


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
    sharpness: float,
    columns: int | None = None,
) -> Answer:
    answer = partial(images_answer, media_type, contract, images, fields, sharpness=sharpness, columns=columns)
    return answer() if _is_small(images) else await state.run_in_thread(request, answer)


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
