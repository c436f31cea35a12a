"""What requests and answers look like in JSON. These classes validate, and they are the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import MISSING, BaseModel, ConfigDict, FailFast, Field

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
Png = Annotated[
    str,
    Field(
        description="A PNG, in base64.",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    ),
]

# Lists fail at their first bad item (FailFast): a body of a million wrong items must not become a million errors.
# And they fail at so many items, whatever VAE_MAX_BATCH allows: before there are millions of Python's objects.
_MOST_ITEMS: Final = 2**16

Latent = Annotated[list[float], Field(description="`latent_dim` numbers.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ImageOptions(_Request):
    """What can be said about a batch of images, whichever way the images themselves come."""

    model: ModelReference
    preprocess: Preprocess = Field(
        "resize",
        description="none: the pictures have the model's size and mode already. resize: to grey or RGB, transparency "
        "over the background, EXIF turned, area-averaged to fit with its aspect kept; a picture of the model's size is "
        "used bit for bit. digit: as MNIST was made: ink found, cropped, scaled to a 20x20 box, centred by mass.",
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
    """How many new images, and how to draw them."""

    n: int = Field(16, ge=1, description="How many images.")
    seed: Seed
    temperature: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Standard deviation of z about the mean it is drawn from, in units of its own.",
    )
    label: int | None = Field(None, ge=0, description="Draw from the aggregate prior of this label.")
    prior: Prior | None = Field(
        None,
        description="normal: N(0, I). aggregate: a mixture of Gaussians fitted to the codes of the training images, "
        "whose samples look far more like them; the default where the model has one.",
    )
    model: ModelReference


class DecodeRequest(_Request):
    """Latents to decode."""

    z: Annotated[list[Annotated[Latent, FailFast(), Field(max_length=_MOST_ITEMS)]], FailFast()] = Field(
        min_length=1, max_length=_MOST_ITEMS, description="One latent for each image."
    )
    model: ModelReference


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


class SampleAnswer(_Answer):
    """New images, and what is needed to make them again."""

    images: list[Png]
    z: list[Latent]
    seed: int
    prior: Prior


class DecodeAnswer(_Answer):
    """One image for each latent."""

    images: list[Png]


class ModelInfo(BaseModel):
    """One model that is served: its contract, its card, and what it runs on."""

    id: str = Field(description="name@version, as requests and answers spell it.")
    name: str
    version: int
    identity: str = Field(description="SHA-256 of the weights.")
    dataset: str
    image_shape: list[int] = Field(description="[height, width] for grey, [height, width, 3] for colour.")
    background: int = Field(description="Grey level of empty paper, 0 to 255.")
    latent_dim: int
    objective: str
    recipe: dict[str, Any] = Field(description="Every number of the training.")
    metrics: dict[str, float] = Field(description="Measured on the whole test set.")
    files: dict[str, str] = Field(description="SHA-256 of each file of the bundle.")
    tools: dict[str, str] = Field(description="Versions of what trained and exported it.")
    git_commit: str
    contract_version: int
    priors: list[Prior] = Field(description="What `/sample` can draw from; the last one unless told otherwise.")
    labels: list[int] = Field(description="Labels that `/sample` can draw.")
    provider: str = Field(description="The onnxruntime execution provider that it really runs on.")
    card: str = Field(description="The model card, in Markdown.")


class ModelList(BaseModel):
    """Everything under the models folder."""

    default: str | None = Field(
        description="The model that answers requests which name none, name@version; null while its bundle is missing."
    )
    models: list[ModelInfo]
    refused: dict[str, str] = Field(
        description="Bundles refused as they are on disk, by folder, and why; what one was before may still be served."
    )


class Live(BaseModel):
    """Whether the process does anything still."""

    live: bool
    reason: str = Field(description="Why, in one sentence.")


class Ready(BaseModel):
    """Whether requests should be sent here."""

    ready: bool
    reason: str = Field(description="Why, in one sentence.")


class ProblemItem(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to it; images count alike however they were sent.")
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="A URI; about:blank says that there is nothing to know beyond the status.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="The answer's X-Request-ID: quote it when you ask for help.")
    errors: list[ProblemItem] | MISSING = Field(
        MISSING, description="What is wrong with which value, where it is known."
    )
