"""Requests in JSON, and the options of every request. The classes validate; the OpenAPI document has their schemas."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import (
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

from service.contract import LATENT_LIMIT, SHARPNESS_LIMIT, TEMPERATURE_LIMIT
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

# Sharpness of images. Those that are asked for as they are decoded have 1, and samples have the bundle's own.
_SHARPENS: Final = (
    "Makes dark pixels darker and light ones lighter: tanh(sharpness * atanh(x)) for pixels x in [-1, 1]. 1 leaves the "
    "decoder's mean image as it is."
)
Sharpness = Annotated[float, Field(1.0, ge=1, le=SHARPNESS_LIMIT, description=_SHARPENS)]


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


class ImageOptions(PictureOptions):
    """The options of a request to encode images."""

    sample: bool = Field(False, description="Draw z from the posterior instead of using its mean, mu.")
    seed: Seed


class ReconstructOptions(ImageOptions):
    """The options of a request to reconstruct images."""

    sharpness: Sharpness


LONGEST_ID: Final = 256  # of a line of a stream, in characters


class StreamLine(_Request):
    """A line of a stream: one picture."""

    image: str = Field(description="A PNG, JPEG, WebP, GIF, BMP or TIFF file in base64, bare or as a data: URI.")
    id: str | None = Field(None, max_length=LONGEST_ID, description="Any text; the line of the answer has it, too.")


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
        description="PNG, JPEG, WebP, GIF, BMP or TIFF files in base64, bare or as data: URIs.",
        min_length=1,
        max_length=_MOST_ITEMS,
    ),
]


class ImageRequest(ImageOptions):
    """A batch of pictures in JSON."""

    images: Pictures


class ReconstructRequest(ReconstructOptions):
    """A batch of pictures to reconstruct, in JSON."""

    images: Pictures


class ScoreRequest(ScoreOptions):
    """A batch of pictures to score, in JSON."""

    images: Pictures


class SampleRequest(_Request):
    """How many images to draw, and how."""

    n: int = Field(16, ge=1, description="How many images.")
    seed: Seed
    temperature: float | None = Field(
        None,
        ge=0,
        le=TEMPERATURE_LIMIT,
        description="Factor on the standard deviation of z. 0 gives the means, 1 the prior itself. Default: the "
        "model's own, as in `/models`.",
    )
    sharpness: float | None = Field(
        None,
        ge=1,
        le=SHARPNESS_LIMIT,
        description=f"{_SHARPENS} Default: the model's own, as in `/models`.",
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


class LatentOptions(_Request):
    """The options of a request to decode latents."""

    model: ModelReference
    sharpness: Sharpness


class DecodeRequest(LatentOptions):
    """The latents to decode."""

    z: Latents = Field(
        description=f"One latent for each image. Values are between -{LATENT_LIMIT:.0f} and {LATENT_LIMIT:.0f}."
    )


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
    sharpness: Sharpness


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
    sharpness: Sharpness


class TraverseRequest(TraverseOptions, _Points):
    """One picture or latent to bend."""

    model_config = ConfigDict(json_schema_extra=_EITHER)
