"""Requests and answers in JSON. The classes validate requests, and the OpenAPI document has their schemas."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import MISSING, BaseModel, ConfigDict, FailFast, Field, PlainValidator, WithJsonSchema

from service.contract import LATENT_LIMIT
from service.images.preprocess import Preprocess
from service.inference.autoencoder import SEED_LIMIT, Prior

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


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ImageOptions(_Request):
    """The options of a request with images. They are the same for every media type."""

    model: ModelReference
    preprocess: Preprocess = Field(
        "auto",
        description="auto: a picture of the model's size is not changed; others become like the training data. In grey "
        "models on black or white: find the digit as `digit` does, and place it in the training images' box; if there "
        "is none, invert the picture if that brings its edge nearer to the model's background, and scale it. In other "
        "models: as resize. resize: convert to grey or RGB, put transparent pixels over the background, apply the EXIF "
        "orientation, scale by area averaging, keep the aspect ratio; a picture that has the model's size is not "
        "changed. digit: find the digit in a photo, a scan or a drawing, whatever its light and polarity, and prepare "
        "it like those of MNIST: scale it into a box of 20x20 pixels, centre its mass; a picture without one is "
        "refused. none: use the pictures as they are; they must have the model's size and mode.",
    )
    preview: bool = Field(
        False, description="Show in a JSON answer, as `preview`, what the model saw: the images after `preprocess`."
    )
    sample: bool = Field(False, description="Draw z from the posterior instead of using its mean, mu.")
    seed: Seed


class ImageRequest(ImageOptions):
    """A batch of pictures in JSON."""

    images: Annotated[list[str], FailFast()] = Field(
        description="PNG, JPEG, WebP, GIF or BMP files in base64, bare or as data: URIs.",
        min_length=1,
        max_length=_MOST_ITEMS,
    )


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

    z: Annotated[list[Annotated[Latent, FailFast(), Field(max_length=_MOST_ITEMS)]], FailFast()] = Field(
        min_length=1,
        max_length=_MOST_ITEMS,
        description=f"One latent for each image. Values are between -{LATENT_LIMIT:.0f} and {LATENT_LIMIT:.0f}.",
    )
    model: ModelReference


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


class EncodeAnswer(_Answer):
    """The posterior of each image: q(z|x) = N(mu, exp(logvar))."""

    mu: list[Latent]
    logvar: list[Latent] = Field(description="Logarithm of the variance.")
    z: list[Latent] | MISSING = Field(MISSING, description="A draw from the posterior; only with `sample`.")
    seed: int | MISSING = Field(MISSING, description="The seed of that draw; only with `sample`.")
    found: list[FoundDigit | None] | MISSING = Field(
        MISSING,
        description="Where the digit is in each picture; null where none was searched, or none was found by `auto`. "
        "Only if a digit was found in one of them.",
    )
    preview: list[Png] | MISSING = Field(MISSING, description="What the model saw; only with `preview`.")


class ReconstructAnswer(EncodeAnswer):
    """The posterior of each image, and the image decoded from it."""

    images: list[Png]
    mse: list[float] = Field(
        description="For each image the mean squared difference to the input, over pixels in [0, 1]."
    )


class SampleAnswer(_Answer):
    """New images, and the values with which they can be made again."""

    images: list[Png]
    z: list[Latent]
    seed: int
    prior: Prior


class DecodeAnswer(_Answer):
    """One image for each latent."""

    images: list[Png]


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
