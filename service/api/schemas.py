"""Requests and answers in JSON. The classes validate requests, and the OpenAPI document has their schemas."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import (
    MISSING,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from service.contract import LATENT_LIMIT
from service.images.preprocess import Preprocess
from service.inference.autoencoder import SEED_LIMIT, Prior
from service.inference.walks import WalkPath

ModelReference = Annotated[
    str | None,
    Field(None, max_length=80, description='"name" (its highest version) or "name@version"; else the default model.'),
]
Seed = Annotated[
    int | None,
    Field(
        None, ge=0, lt=SEED_LIMIT, description="Seed of the noise. Same request, same seed, same answer, bit for bit."
    ),
]


def _label(value: object) -> int | str:
    """A label's number or name. One validator, so that a wrong value is one fault and not one for each of two types."""
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_NAME:
        return value
    raise ValueError(f"Neither a label's number nor a name of at most {_LONGEST_NAME} characters.")


_LONGEST_NAME: Final = 255
Label = Annotated[
    int | str,
    PlainValidator(_label),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "maxLength": _LONGEST_NAME}]}),
]
Png = Annotated[
    str,
    Field(
        description="A PNG, in base64.",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    ),
]

# Validation of a list stops at the first bad item (FailFast), so that a million bad items are not a million errors.
# No list may have more items than this, whatever VAE_MAX_BATCH is, so that it does not become millions of objects.
_MOST_ITEMS: Final = 2**16

Latent = Annotated[list[float], Field(description="`latent_dim` numbers.")]
Latents = Annotated[
    list[Annotated[Latent, FailFast(), Field(max_length=_MOST_ITEMS)]],
    FailFast(),
    Field(min_length=1, max_length=_MOST_ITEMS),
]

# A list of numbers in a query or a form, which have text only.
_NUMBER: Final = r"-?[0-9]+(\.[0-9]+)?"
NUMBERS: Final = f"{_NUMBER}(,{_NUMBER})*"


def _split(value: object, info: ValidationInfo) -> object:
    if info.mode == "json" or not isinstance(value, str):
        return value
    parts = value.split(",", _MOST_ITEMS)
    if not all(re.fullmatch(_NUMBER, part) for part in parts):
        raise PydanticCustomError("numbers", "Not numbers with commas between them")
    return parts


# In a schema of requests with `images` or `z`. `oneOf` would say the same, and generators of clients take it for types.
_EITHER: Final[JsonDict] = {
    "if": {"required": ["images"]},
    "then": {"not": {"required": ["z"]}},
    "else": {"required": ["z"]},
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class PictureOptions(_Request):
    """The options of every request that can have pictures: how these are read, and by which model."""

    model: ModelReference
    preprocess: Preprocess = Field(
        "resize",
        description="none: use the pictures as they are; they must have the model's size and mode. resize: convert to "
        "grey or RGB, put transparent pixels over the background, apply the EXIF orientation, scale by area averaging, "
        "keep the aspect ratio; a picture that has the model's size is not changed. digit: prepare the picture like "
        "those of MNIST: find the ink, crop to it, scale it into a box of 20x20 pixels, centre its mass.",
    )


class ImageOptions(PictureOptions):
    """The options of a request to encode or reconstruct images."""

    sample: bool = Field(False, description="Draw z from the posterior instead of using its mean, mu.")
    seed: Seed


class ScoreOptions(PictureOptions):
    """The options of a request to score images."""

    k: int | None = Field(
        None,
        ge=1,
        le=_MOST_ITEMS,
        description="Draws of each image for `log_likelihood`; at most VAE_MAX_BATCH draws of all images together.",
    )
    seed: Seed


Pictures = Annotated[
    list[str],
    FailFast(),
    Field(
        description="PNG, JPEG, WebP, GIF or BMP files in base64, bare or as data: URIs.",
        min_length=1,
        max_length=_MOST_ITEMS,
    ),
]


class ImageRequest(ImageOptions):
    """A batch of pictures in JSON."""

    images: Pictures


class ScoreRequest(ScoreOptions):
    """A batch of pictures to score, in JSON."""

    images: Pictures


class SampleRequest(_Request):
    """How many images to draw, and how."""

    n: int = Field(16, ge=1, description="How many images.")
    seed: Seed
    temperature: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Factor on the standard deviation of z. 0 gives the means, 1 the prior itself.",
    )
    label: Label | None = Field(
        None, description="Draw from the aggregate prior of this label only: its number, or its name as in `/models`."
    )
    prior: Prior | None = Field(
        None,
        description="normal: N(0, I). aggregate: a mixture of Gaussians fitted to the latents of the training images; "
        "its samples look much more like them. Default: aggregate if the model has it, else normal.",
    )
    model: ModelReference


class DecodeRequest(_Request):
    """The latents to decode."""

    z: Latents = Field(
        description=f"One latent for each image. Values are between -{LATENT_LIMIT:.0f} and {LATENT_LIMIT:.0f}."
    )
    model: ModelReference


class _Points(BaseModel):
    """The points of a walk: pictures, or latents, but not both."""

    images: Annotated[list[str], FailFast()] = Field(
        default_factory=list,  # one that is sent is never empty
        description="Pictures as in `/encode`; the points are the means of their posteriors.",
        min_length=1,
        max_length=_MOST_ITEMS,
    )
    z: Latents = Field(default_factory=list, description="Latents as in `/decode`, in place of images.")


class InterpolateOptions(PictureOptions):
    """How to go from one point to the next."""

    steps: int = Field(8, ge=2, description="Number of images from one point to the next, both included.")
    path: WalkPath = Field(
        "linear",
        description="linear: the straight line. spherical: on a great circle around the origin, the length changing "
        "evenly, so that what is between two latents of N(0, I) has a length that is usual there.",
    )


class InterpolateRequest(InterpolateOptions, _Points):
    """Two or more pictures or latents to go along."""

    model_config = ConfigDict(json_schema_extra=_EITHER)


class TraverseOptions(PictureOptions):
    """Which latents to change, and how."""

    dims: Annotated[list[int], FailFast(), BeforeValidator(_split)] = Field(
        default_factory=list,
        min_length=1,
        max_length=_MOST_ITEMS,
        description="Indices of the latents to change, one row of images for each. Default: the five that "
        "say most about an image, by the bundle's own figures.",
    )
    range: Annotated[
        list[Annotated[float, Field(ge=-LATENT_LIMIT, le=LATENT_LIMIT)]], FailFast(), BeforeValidator(_split)
    ] = Field(
        [-3.0, 3.0],
        min_length=2,
        max_length=2,
        description="The least and the largest value that each of them takes. Over all images a latent has about mean "
        "0 and standard deviation 1.",
    )
    steps: int = Field(7, ge=2, description="Number of values, evenly spaced, both ends included.")


class TraverseRequest(TraverseOptions, _Points):
    """One picture or latent to bend."""

    model_config = ConfigDict(json_schema_extra=_EITHER)


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(description="The model that answered, name@version.")


class EncodeAnswer(_Answer):
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


class ScoreAnswer(_Answer):
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


class _WalkAnswer(_Answer):
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
