"""Answers in JSON, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import MISSING, BaseModel, ConfigDict, Field

from service.api.schemas import Latent
from service.inference.autoencoder import Prior

Png = Annotated[
    str,
    Field(
        description="A PNG, in base64.",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    ),
]


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(description="The model that answered, name@version.")


class FoundDigit(BaseModel):
    """Where in a picture a digit was found."""

    box: list[int] = Field(
        description="[left, top, right, bottom] in pixels of the picture as sent, turned as its EXIF orientation says.",
        min_length=4,
        max_length=4,
    )
    confidence: float = Field(
        ge=0,
        le=1,
        description="The digit's share of all ink in the picture, times the share of its own with a clear outline.",
    )


class _PictureAnswer(_Answer):
    found: list[FoundDigit | None] | MISSING = Field(
        MISSING,
        description="Where the digit is in each picture; null where none was searched, or none was found by `auto`. "
        "Only if a digit was found in one of them.",
    )
    preview: list[Png] | MISSING = Field(MISSING, description="What the model saw; only with `preview`.")


class EncodeAnswer(_PictureAnswer):
    """The posterior of each image: q(z|x) = N(mu, exp(logvar))."""

    mu: list[Latent]
    logvar: list[Latent] = Field(description="Logarithm of the variance.")
    z: list[Latent] | MISSING = Field(MISSING, description="A draw from the posterior; only with `sample`.")
    seed: int | MISSING = Field(MISSING, description="The seed of that draw; only with `sample`.")


class ReconstructAnswer(EncodeAnswer):
    """The posterior of each image, and the image decoded from it."""

    images: list[Png]
    mse: list[float] = Field(
        description="For each image the mean squared difference to the input, over pixels in [0, 1]."
    )


class ScoreAnswer(_PictureAnswer):
    """How well the model explains each image, and how typical it is of the model's test set."""

    distortion: list[float] = Field(
        description="The objective's reconstruction term: of the image decoded from mu, or with `k` the mean of draws."
    )
    rate: list[float] = Field(description="KL divergence of the posterior from N(0, I), in nats.")
    elbo: list[float] = Field(description="-(distortion + rate), in the units of the objective.")
    typicality: list[float] = Field(
        description="The share of the model's test images that are less likely than the image, 0 to 1. Of an image "
        "like them any value is as probable as any other; near 0 it is unlike all of them."
    )
    log_likelihood: list[float] | MISSING = Field(
        MISSING, description="Importance-weighted estimate of log p(x), in the units of `elbo`; only with `k`."
    )
    k: int | MISSING = Field(MISSING, description="Draws of each image; only with `k`.")
    seed: int | MISSING = Field(MISSING, description="The seed of the draws; only with `k`.")


class SampleAnswer(_Answer):
    """New images, and the values with which they can be made again."""

    images: list[Png]
    z: list[Latent]
    seed: int
    prior: Prior
    temperature: float
    sharpness: float


class _WalkAnswer(_PictureAnswer):
    images: list[Png]
    z: list[Latent] = Field(description="The latent of each of these images.")
    mu: list[Latent] | MISSING = Field(MISSING, description="The mean of each image's posterior; only with `images`.")


class InterpolateAnswer(_WalkAnswer):
    """The images from point to point, in order. Each point is among them once."""


class TraverseAnswer(_WalkAnswer):
    """The images, row by row: a row for each latent of `dims`, and in it one image for each of `values`."""

    dims: list[int]
    values: list[float]


class DecodeAnswer(_Answer):
    """One image for each latent."""

    images: list[Png]


class LatentUse(BaseModel):
    """How much the images of the test set use one latent."""

    index: int = Field(description="Its place in z, from 0.")
    rate: float = Field(description="Mean of its part of the rate, in nats; near 0 it says nothing about an image.")
    mu_mean: float
    mu_std: float


class ModelInfo(BaseModel):
    """A model: its contract, its card, and the provider that it runs on."""

    id: str = Field(description="name@version, as requests and answers spell it.")
    name: str
    version: int
    identity: str = Field(description="SHA-256 of the weights.")
    dataset: str
    image_shape: list[int] = Field(description="[height, width] for grey, [height, width, 3] for colour.")
    background: int = Field(description="Grey level of the background, 0 to 255.")
    latent_dim: int
    objective: str
    recipe: dict[str, Any] = Field(description="Every parameter of the training.")
    metrics: dict[str, float] = Field(description="Measured on the whole test set.")
    files: dict[str, str] = Field(description="SHA-256 of each file of the bundle.")
    tools: dict[str, str] = Field(description="Versions of the libraries that trained and exported it.")
    git_commit: str
    contract_version: int
    sharpness: float = Field(description="The default sharpness of `/sample`.")
    temperature: float = Field(description="The default temperature of `/sample`.")
    priors: list[Prior] = Field(description="The priors that `/sample` can draw from. The last one is the default.")
    labels: list[int] = Field(description="Labels that `/sample` can draw.")
    label_names: list[str] = Field(description="Names of these labels, in the same order; empty where they have none.")
    latents: list[LatentUse] = Field(
        description="The latents, the busiest first; empty where the bundle has no statistics of its test set."
    )
    provider: str = Field(description="The onnxruntime execution provider that it runs on.")
    card: str = Field(description="The model card, in Markdown.")


class ModelList(BaseModel):
    """Every model that is served, and every bundle that was refused."""

    default: str | None = Field(
        description="The model of requests that name none, as name@version. null while its bundle is missing."
    )
    models: list[ModelInfo]
    refused: dict[str, str] = Field(
        description="Bundles that were refused and folders that cannot be read, by folder, and why; . is the folder of "
        "all models. What was served of them before is still served."
    )


class ModelSummary(BaseModel):
    """What a client has to know of a model to choose it."""

    id: str = Field(description="name@version, as requests and answers spell it.")
    name: str
    version: int
    dataset: str
    image_shape: list[int] = Field(description="[height, width] for grey, [height, width, 3] for colour.")
    latent_dim: int


class ShortModelList(BaseModel):
    """Every model that is served, in short: the answer with `view=short`."""

    default: str | None = Field(
        description="The model of requests that name none, as name@version. null while its bundle is missing."
    )
    models: list[ModelSummary]


class Live(BaseModel):
    """Whether the process works."""

    live: bool
    reason: str = Field(description="Why, in one sentence.")


class Ready(BaseModel):
    """Whether the service can take requests."""

    ready: bool
    reason: str = Field(description="Why, in one sentence.")


class ProblemItem(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(
        description="JSON pointer (RFC 6901) to it. The fourth image is /images/3 in every media type."
    )
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 defines it."""

    type: str = Field(description="A URI. about:blank means that the status says it all.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="The X-Request-ID of the answer. The log has it, too.")
    errors: list[ProblemItem] | MISSING = Field(
        MISSING, description="Which values are wrong, and why, if it is about values."
    )


class EncodeLine(BaseModel):
    """A line of the answer to a stream: what is said of one image, or the problem with it.

    A last line with a problem and no `line` says why the stream ended before its end.
    """

    line: int | MISSING = Field(MISSING, ge=1, description="The number of its line, or of its part, from 1.")
    id: str | MISSING = Field(MISSING, description="That of its line, or the file name of its part, if it has one.")
    mu: Latent | MISSING = MISSING
    logvar: Latent | MISSING = Field(MISSING, description="Logarithm of the variance.")
    z: Latent | MISSING = Field(MISSING, description="A draw from the posterior; only with `sample`.")
    found: FoundDigit | MISSING = Field(MISSING, description="Where in the picture a digit was found, if one was.")
    preview: Png | MISSING = Field(MISSING, description="What the model saw; only with `preview`.")
    error: Problem | MISSING = Field(MISSING, description="Why there is nothing else.")


class ReconstructLine(EncodeLine):
    """A line of the answer to a stream: the posterior of one image, and the image decoded from it."""

    image: Png | MISSING = MISSING
    mse: float | MISSING = Field(
        MISSING, description="The mean squared difference to the input, over pixels in [0, 1]."
    )
