"""Requests and answers of the routes under /v1/, which have the form of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.schemas import ModelReference
from service.images.preprocess import Preprocess

# No request has more pictures than this, whatever VAE_MAX_BATCH is, as in the other routes.
_MOST_ITEMS: Final = 2**16


def _pictures(value: object) -> list[str]:
    """The pictures of `input` in base64, of one item or of a list of them."""
    items = value if isinstance(value, list) else [value]
    if len(items) > _MOST_ITEMS:
        raise PydanticCustomError("too_long", "There are more than {most} pictures", {"most": _MOST_ITEMS})
    return [_picture(item, index) for index, item in enumerate(items)]


def _picture(item: object, index: int) -> str:
    """One picture: a text, or an object with it as the chat API, or the responses API, has images."""
    if isinstance(item, dict) and item.get("type") in ("image_url", "input_image"):
        item = item.get("image_url")
        if isinstance(item, dict):
            item = item.get("url")
    if not isinstance(item, str):
        sentence = "Item {index} is not a picture: a data: URI, or an object of the type image_url with one"
        raise PydanticCustomError("picture", sentence, {"index": index})
    return item


_URL: Final = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}
_PART: Final = {
    "type": "object",
    "properties": {"type": {"type": "string", "enum": ["image_url"]}, "image_url": _URL},
    "required": ["type", "image_url"],
}
_ITEM: Final = [{"type": "string"}, _PART]


class EmbeddingsRequest(BaseModel):
    """The pictures to embed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    input: Annotated[
        list[str],
        PlainValidator(_pictures),
        WithJsonSchema({"anyOf": [*_ITEM, {"type": "array", "minItems": 1, "items": {"anyOf": _ITEM}}]}),
    ] = Field(
        description="A picture or a list of them: data: URIs, bare base64, or objects of the type image_url as chat "
        "requests have them. URLs are not fetched."
    )
    model: ModelReference
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="float: lists of numbers. base64: float32, little-endian."
    )
    dimensions: int | None = Field(None, description="Refused: an embedding has the model's `latent_dim` numbers.")
    user: str | None = Field(None, description="Not used.")
    preprocess: Preprocess = Field("auto", description="As in `/encode`; OpenAI's API does not have it.")


class Embedding(BaseModel):
    """The embedding of one picture: mu, the mean of its posterior."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """What was used, counted in images."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The embeddings, in the order of the pictures."""

    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(description="The model that answered, name@version.")
    usage: Usage


class OpenAIModel(BaseModel):
    """A model that is served."""

    id: str = Field(description="name@version")
    object: Literal["model"] = "model"
    created: int = Field(0, description="Always 0: bundles do not say when they were made.")
    owned_by: str = Field("vae-service")


class OpenAIModelList(BaseModel):
    """Every model that is served."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class OpenAIErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(description="invalid_request_error, authentication_error or server_error")
    param: str | None = Field(description="The field that it is about.")
    code: str | None = Field(description="model_not_found, invalid_api_key, or none.")


class OpenAIError(BaseModel):
    """An error in the form of OpenAI's API."""

    error: OpenAIErrorBody
