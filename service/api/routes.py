"""The routes of the verbs and of the models. Each one reads, makes one call, and answers; none needs a try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from service.api import answers, openapi
from service.api.answers import IMAGE_TYPES, LATENT_TYPES, negotiate
from service.api.requests import (
    JSON,
    MULTIPART,
    NPY,
    PICTURES,
    read_body,
    read_form,
    read_images,
    read_latents,
)
from service.api.schemas import (
    DecodeAnswer,
    DecodeRequest,
    EncodeAnswer,
    ModelInfo,
    ModelList,
    ReconstructAnswer,
    SampleAnswer,
    SampleRequest,
)
from service.api.state import Rooms, rooms, timing
from service.codec import check_batch
from service.registry import Model

router = APIRouter()

_IMAGE_BODIES = (JSON, MULTIPART, *PICTURES, NPY)
_BAD_REQUEST = (400, 404, 406, 413, 415, 422, 500)

Answer = TypeVar("Answer")


@router.post(
    "/encode",
    tags=["verbs"],
    summary="Images to latents",
    response_class=Response,
    responses=openapi.answer(
        EncodeAnswer, LATENT_TYPES, "The posteriors. As an array: mu, logvar and, with `sample`, z, stacked."
    )
    | openapi.problems(*_BAD_REQUEST),
    openapi_extra=openapi.image_body(),
)
async def encode(request: Request) -> Response:
    """Encode each image to the mean and the log-variance of its posterior."""
    room = rooms(request)
    media_type = negotiate(request.headers.get("accept"), LATENT_TYPES)
    body = await read_body(request, _IMAGE_BODIES, room.settings.max_body_bytes)
    batch = await _off_loop(room, read_images, body, room.registry, room.settings)
    autoencoder, options = batch.model.autoencoder, batch.options
    posterior = await autoencoder.encode(batch.images, timing(request), sample=options.sample, seed=options.seed)
    fields = {"mu": posterior.mu, "logvar": posterior.logvar, "z": posterior.z, "seed": posterior.seed}
    stacked = (posterior.mu, posterior.logvar) + (() if posterior.z is None else (posterior.z,))
    return await _off_loop(room, answers.latents_answer, media_type, autoencoder.contract, fields, stacked)


@router.post(
    "/reconstruct",
    tags=["verbs"],
    summary="Images to latents and back",
    response_class=Response,
    responses=openapi.answer(ReconstructAnswer, IMAGE_TYPES, "The reconstructions. As one PNG: several in a grid.")
    | openapi.problems(*_BAD_REQUEST),
    openapi_extra=openapi.image_body(),
)
async def reconstruct(request: Request) -> Response:
    """Encode each image and decode it again, from its mean or, with `sample`, from a draw."""
    room = rooms(request)
    media_type = negotiate(request.headers.get("accept"), IMAGE_TYPES)
    body = await read_body(request, _IMAGE_BODIES, room.settings.max_body_bytes)
    batch = await _off_loop(room, read_images, body, room.registry, room.settings)
    autoencoder, options = batch.model.autoencoder, batch.options
    result = await autoencoder.reconstruct(batch.images, timing(request), sample=options.sample, seed=options.seed)
    posterior = result.posterior
    fields = {
        "mu": posterior.mu,
        "logvar": posterior.logvar,
        "z": posterior.z,
        "seed": posterior.seed,
        "mse": result.mse,
    }
    return await _off_loop(room, answers.images_answer, media_type, autoencoder.contract, result.images, fields)


@router.post(
    "/sample",
    tags=["verbs"],
    summary="New images",
    response_class=Response,
    responses=openapi.answer(SampleAnswer, IMAGE_TYPES, "New images. As one PNG: several in a grid.")
    | openapi.problems(*_BAD_REQUEST),
    openapi_extra=openapi.json_body(SampleRequest),
)
async def sample(request: Request) -> Response:
    """Draw latents from the prior and decode them."""
    room = rooms(request)
    media_type = negotiate(request.headers.get("accept"), IMAGE_TYPES)
    body = await read_body(request, (JSON,), room.settings.max_body_bytes)
    form = await _off_loop(room, read_form, body, SampleRequest)
    check_batch(form.n, room.settings.max_batch, "n")
    autoencoder = room.registry.find(form.model).autoencoder
    result = await autoencoder.sample(
        form.n, timing(request), seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    fields = {"z": result.z, "seed": result.seed, "prior": result.prior}
    return await _off_loop(room, answers.images_answer, media_type, autoencoder.contract, result.images, fields)


@router.post(
    "/decode",
    tags=["verbs"],
    summary="Latents to images",
    response_class=Response,
    responses=openapi.answer(DecodeAnswer, IMAGE_TYPES, "The images. As one PNG: several in a grid.")
    | openapi.problems(*_BAD_REQUEST),
    openapi_extra=openapi.json_body(DecodeRequest),
)
async def decode(request: Request) -> Response:
    """Decode latents to images."""
    room = rooms(request)
    media_type = negotiate(request.headers.get("accept"), IMAGE_TYPES)
    body = await read_body(request, (JSON,), room.settings.max_body_bytes)
    model, z = await _off_loop(room, read_latents, body, room.registry, room.settings)
    images = await model.autoencoder.decode(z, timing(request))
    return await _off_loop(room, answers.images_answer, media_type, model.autoencoder.contract, images, {})


@router.get("/models", tags=["models"], summary="What is served")
async def models(request: Request) -> ModelList:
    """The contract and the card of every model, and what was refused and why."""
    registry = rooms(request).registry
    return ModelList(
        default=registry.default.autoencoder.contract.id,
        models=[_info(model) for model in registry],
        refused=registry.refused,
    )


@router.get("/models/{name}", tags=["models"], summary="One model", responses=openapi.problems(404))
async def model(request: Request, name: str) -> ModelInfo:
    """The contract and the card of `name`, its highest version, or of `name@version`."""
    return _info(rooms(request).registry.find(name))


async def _off_loop(room: Rooms, work: Callable[..., Answer], *arguments: object) -> Answer:
    """Run work that may take milliseconds where it does not keep other requests and the probes waiting."""
    return await asyncio.get_running_loop().run_in_executor(room.codec, work, *arguments)


def _info(model: Model) -> ModelInfo:
    contract = model.autoencoder.contract
    return ModelInfo(
        **{field: getattr(contract, field) for field in contract.__slots__ if field != "image_shape"},
        id=contract.id,
        image_shape=list(contract.image_shape),
        provider=model.provider,
        card=model.card,
    )
