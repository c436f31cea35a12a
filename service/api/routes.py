"""The routes of the verbs, which FastAPI documents and `verbs.py` answers."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import openapi, verbs
from service.api.answer_schemas import (
    DecodeAnswer,
    EncodeAnswer,
    EncodeLine,
    InterpolateAnswer,
    ReconstructAnswer,
    ReconstructLine,
    SampleAnswer,
    ScoreAnswer,
    TraverseAnswer,
)
from service.api.answers import IMAGE_TYPES, LATENT_TYPES
from service.api.openai_schemas import EmbeddingsAnswer, EmbeddingsRequest
from service.api.request_head import IMAGE_BODIES, LATENT_BODIES, SEVERAL_BODIES
from service.api.schemas import (
    DecodeRequest,
    ImageOptions,
    ImageRequest,
    InterpolateOptions,
    InterpolateRequest,
    LatentOptions,
    ReconstructOptions,
    ReconstructRequest,
    SampleRequest,
    ScoreOptions,
    ScoreRequest,
    TraverseOptions,
    TraverseRequest,
)

router = APIRouter()


class VerbResponse(Response):
    """A response that an ASGI application sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        await self.app(scope, receive, send)


@router.post(
    "/encode",
    tags=["verbs"],
    summary="Images to latents",
    response_class=Response,
    responses=openapi.verb_answers(
        EncodeAnswer,
        LATENT_TYPES,
        "The posteriors. As an array: mu, logvar and, with `sample`, z, in that order. As NDJSON: a line an image.",
        "X-Seed",
        line=EncodeLine,
    ),
    openapi_extra=openapi.image_body(IMAGE_BODIES, ImageRequest, ImageOptions, streams=True),
)
async def encode() -> Response:
    """Encode each image to the mean and the log-variance of its posterior.

    A body of NDJSON, or a multipart form with `Accept: application/x-ndjson`, may be of any length; it is answered line
    by line.
    """
    return VerbResponse(verbs.encode)


@router.post(
    "/reconstruct",
    tags=["verbs"],
    summary="Images to latents and back",
    response_class=Response,
    responses=openapi.verb_answers(
        ReconstructAnswer,
        IMAGE_TYPES,
        "The reconstructions. As one PNG: several in a grid. As NDJSON: a line an image.",
        "X-Seed",
        line=ReconstructLine,
    ),
    openapi_extra=openapi.image_body(IMAGE_BODIES, ReconstructRequest, ReconstructOptions, streams=True),
)
async def reconstruct() -> Response:
    """Encode each image and decode it again, from its mean or, with `sample`, from a draw.

    Streams are taken as by `/encode`.
    """
    return VerbResponse(verbs.reconstruct)


@router.post(
    "/score",
    tags=["verbs"],
    summary="How typical images are",
    response_class=Response,
    responses=openapi.verb_answers(
        ScoreAnswer,
        LATENT_TYPES,
        "The scores. As an array, float32 [4, N]: distortion, rate, elbo and typicality, in that order; with `k` a "
        "fifth row, log_likelihood.",
        "X-Seed",
    ),
    openapi_extra=openapi.image_body(IMAGE_BODIES, ScoreRequest, ScoreOptions),
)
async def score() -> Response:
    """Say how well the model explains each image, and where it lies among the images of its test set."""
    return VerbResponse(verbs.score)


@router.post(
    "/v1/embeddings",
    tags=["openai"],
    summary="Images to embeddings, as OpenAI's API has it",
    response_class=Response,
    responses=openapi.openai_answers(EmbeddingsAnswer, "The embeddings."),
    openapi_extra=openapi.json_body(EmbeddingsRequest),
)
async def create_embeddings() -> Response:
    """Encode each image; its embedding is the mean of its posterior."""
    return VerbResponse(verbs.embeddings)


@router.post(
    "/sample",
    tags=["verbs"],
    summary="New images",
    response_class=Response,
    responses=openapi.verb_answers(
        SampleAnswer,
        IMAGE_TYPES,
        "New images. As one PNG: several in a grid.",
        "X-Seed",
        "X-Prior",
        "X-Temperature",
        "X-Sharpness",
    ),
    openapi_extra=openapi.json_body(SampleRequest),
)
async def sample() -> Response:
    """Draw latents from the prior and decode them."""
    return VerbResponse(verbs.sample)


@router.post(
    "/decode",
    tags=["verbs"],
    summary="Latents to images",
    response_class=Response,
    responses=openapi.verb_answers(DecodeAnswer, IMAGE_TYPES, "The images. As one PNG: several in a grid."),
    openapi_extra=openapi.latent_body(LATENT_BODIES, DecodeRequest, LatentOptions),
)
async def decode() -> Response:
    """Decode latents to images."""
    return VerbResponse(verbs.decode)


@router.post(
    "/interpolate",
    tags=["verbs"],
    summary="From image to image, or from latent to latent",
    response_class=Response,
    responses=openapi.verb_answers(
        InterpolateAnswer, IMAGE_TYPES, "The images on the way, the ends included. As one PNG: a strip."
    ),
    openapi_extra=openapi.image_body(SEVERAL_BODIES, InterpolateRequest, InterpolateOptions),
)
async def interpolate() -> Response:
    """Go from each image or latent to the next in equal steps, and decode every latent on the way."""
    return VerbResponse(verbs.interpolate)


@router.post(
    "/traverse",
    tags=["verbs"],
    summary="What single latents do to an image",
    response_class=Response,
    responses=openapi.verb_answers(
        TraverseAnswer, IMAGE_TYPES, "The images. As one PNG: a grid with a row for each latent.", "X-Dims"
    ),
    openapi_extra=openapi.image_body(IMAGE_BODIES, TraverseRequest, TraverseOptions),
)
async def traverse() -> Response:
    """Change one latent of an image at a time, the others as they are, and decode what comes of it."""
    return VerbResponse(verbs.traverse)
