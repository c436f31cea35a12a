"""Embeddings of images as OpenAI's API has them: the work of `/encode` in the words that its clients speak.

The embedding of an image is mu. Errors on paths under /v1/ have OpenAI's form, whatever part of the service they come
from. For values that cannot be used their status is 400, as it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from pybase64 import b64encode_as_string

from service.api.answers import Answer
from service.api.openai_schemas import EmbeddingsRequest
from service.api.requests import Body, ImageForm, read_form, refuse_query
from service.errors import Fault, InvalidInput, Unknown
from service.images import codec
from service.inference.admission import Reservation
from service.inference.engine import Floats
from service.inference.registry import Registry
from service.settings import Settings

_PREFIX: Final = "/v1/"

# So many faults are told in one message.
_MOST_TOLD: Final = 10

# An embedding in an answer takes so many bytes besides its numbers: an object with three fields, and these in JSON.
_ITEM_BYTES: Final = 768


def is_spoken(path: str) -> bool:
    """Whether errors on this path have OpenAI's form."""
    return path.startswith(_PREFIX)


def error_document(error: Exception, status: int, detail: str, faults: Sequence[Fault]) -> bytes:
    """An error as JSON in OpenAI's form; `faults` are the values that it is about."""
    kind = "server_error" if status >= 500 else "authentication_error" if status == 401 else "invalid_request_error"
    told = [f"{_place(fault)}: {fault.reason}" for fault in faults[:_MOST_TOLD]]
    if len(faults) > _MOST_TOLD:
        told.append(f"And {len(faults) - _MOST_TOLD} more.")
    param = _field(faults[0]) if faults else None
    code = "invalid_api_key" if status == 401 else None
    if isinstance(error, Unknown):
        param, code = "model", "model_not_found"
    document = {"message": " ".join(told) or detail, "type": kind, "param": param, "code": code}
    return orjson.dumps({"error": document})


def _field(fault: Fault) -> str | None:
    """The field of the request that a fault is in. What decodes pictures calls theirs `images`."""
    if not fault.path:
        return None
    name = str(fault.path[0])[:100]
    return "input" if name == "images" else name


def _place(fault: Fault) -> str:
    return (_field(fault) or "body") + "".join(f"[{str(step)[:100]}]" for step in fault.path[1:])


def parse_embeddings(body: Body, registry: Registry, settings: Settings, reservation: Reservation) -> ImageForm[Any]:
    """A request for embeddings. Decodes no picture.

    Raises InvalidInput, LimitExceeded, Unknown, HTTPException (400), and Overloaded.
    """
    refuse_query(body)
    form = read_form(body, EmbeddingsRequest, reservation)
    codec.check_batch(len(form.input), settings.max_batch, "input")
    reservation.check_images(len(form.input))
    model = registry.find(form.model)
    if form.dimensions is not None:
        latent_dim = model.autoencoder.contract.latent_dim
        sentence = f"It cannot be chosen: an embedding of this model has {latent_dim} numbers."
        raise InvalidInput([Fault(("dimensions",), sentence)])
    return ImageForm(model, form, form.input, npy=False)


def embeddings_answer(model: str, mu: Floats, encoding_format: str, reservation: Reservation) -> Answer:
    """The embeddings mu, float32 [N, latent_dim], as an answer. Raises Overloaded and LimitExceeded."""
    reservation.hold_bytes(_ITEM_BYTES * len(mu))
    numbers: Sequence[object] = list(mu)
    if encoding_format == "base64":
        numbers = [b64encode_as_string(row.astype("<f4").tobytes()) for row in mu]
    document = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(numbers)],
        "model": model,
        "usage": {"prompt_tokens": len(mu), "total_tokens": len(mu)},
    }
    return Answer(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), b"application/json", [])
