"""Request bodies: JSON, multipart, one raw picture or a raw npy batch become options and arrays.

Only `receive_body` waits. All other functions take bytes that are already here, and can run in a thread.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive

from service.api.multipart import read_multipart
from service.api.request_head import JSON, MULTIPART, NPY, RequestOptions, too_large
from service.api.schemas import (
    DecodeRequest,
    InterpolateRequest,
    LatentOptions,
    PictureOptions,
    SampleRequest,
    TraverseRequest,
)
from service.errors import ClientGone, Fault, InvalidInput, LimitExceeded
from service.images import codec
from service.images.digit import Found
from service.images.preprocess import Images, box_of
from service.inference.admission import Reservation
from service.inference.registry import Model, Registry
from service.settings import Settings

# The most faults that one answer names. More do not help, and a million wrong fields must not cost a million entries.
MOST_FAULTS: Final = 100

# Up to this size a body is not counted: with VAE_MAX_CONNECTIONS at its default all of them are 64 MB. What is read or
# written of it takes less time than a hop to a thread and back.
SMALL_BYTES: Final = 16 * 1024

# A value's bytes: as an object with its place in a list; and in the parser, whose lists double when they grow.
_VALUE_BYTES: Final = 80
_PARSED_VALUE_BYTES: Final = 64

# The most values in a JSON body, whatever its size in bytes. Latents may hold more numbers than other requests.
MOST_NUMBERS: Final = 2**20
_MOST_VALUES: Final = 2**17

# A place in a picture, as an object and in JSON.
_FOUND_BYTES: Final = 512

# The JSON forms that hold latents.
_OF_LATENTS: Final = (DecodeRequest, InterpolateRequest, TraverseRequest)

Form = TypeVar("Form", bound=BaseModel)
Options = TypeVar("Options", bound=PictureOptions)
AnyOptions = TypeVar("AnyOptions", bound=BaseModel)

# Reads a request's body. The argument is the most bytes that it may have.
Read = Callable[[int], Awaitable[bytes]]


@dataclass(slots=True)
class Body:
    """A request's body, and the options from its head. What parses it lets go of `data` when it is done."""

    data: bytes
    options: RequestOptions


@dataclass(slots=True)
class ImageForm(Generic[Options]):
    """A request's images before they are decoded, the model that it asks for, and its options.

    `pictures` are files: bytes, or base64 text. With `npy` it is one file that holds the whole batch. `found` is empty
    until the images are decoded, and if that is quick; else it has where the digit is in each of them, or None.
    """

    model: Model
    options: Options
    pictures: Sequence[bytes | str]
    npy: bool
    found: Sequence[Found | None] = ()


async def receive_body(receive: Receive, reservation: Reservation, length: int | None, max_bytes: int) -> bytes:
    """The body of a request that comes through ASGI; `length` is what its head says. Its bytes are reserved.

    Raises LimitExceeded as soon as there are more than `max_bytes`, or when all memory for requests is less; Overloaded
    when the others leave too little of it; and ClientGone when the client closes the connection before the body is
    complete.
    """
    if length is not None:
        reservation.hold_bytes(length)
    body = io.BytesIO()  # getvalue() gives its own bytes; joining parts would need as many again
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        received += len(part)
        if received > max_bytes:
            raise too_large(max_bytes)
        if length is None:
            reservation.hold_bytes(len(part))
        body.write(part)
        more = message.get("more_body", False)
    return body.getvalue()


def read_form(body: Body, form: type[Form], reservation: Reservation, most_values: int | None = None) -> Form:
    """A JSON body, validated by one of the request schemas. Does not look at the query. Lets go of the body.

    A large one may hold `most_values` values; by default that depends on whether it can have latents.
    Raises HTTPException (400, not JSON), InvalidInput, LimitExceeded when it holds too many values or needs too much
    memory, and Overloaded when there is too little at the moment.
    """
    data, body.data = body.data, b""
    large = len(data) > SMALL_BYTES
    if large:
        if most_values is None:
            most_values = MOST_NUMBERS if form in _OF_LATENTS else _MOST_VALUES
        values = _count_values(data, most_values)
        kept, while_parsed = json_cost(data, values)
        reservation.hold_bytes(kept + while_parsed)
    try:
        # model_validate_json calls the same, but spends half as much time again on options of its own.
        read: Form = form.__pydantic_validator__.validate_json(data, strict=True)
    except ValidationError as error:
        raise refusal(error) from error
    if large:
        length = len(data)
        del data
        reservation.hold_bytes(-while_parsed - length)
    return read


def json_cost(data: bytes, values: int) -> tuple[int, int]:
    """What JSON of so many `values` takes as Python's objects, and what it takes besides while it is parsed.

    A string is as long as its text, or up to four times as long if a character in it is not ASCII; then it is made
    twice. With escapes it is copied once more.
    """
    ascii_only = data.isascii() and b"\\u" not in data
    strings = len(data) if ascii_only else 4 * len(data)
    copies = len(data) * ((b"\\" in data) + (not ascii_only))
    return strings + _VALUE_BYTES * values, copies + _PARSED_VALUE_BYTES * values


def read_sample(body: Body, reservation: Reservation) -> SampleRequest:
    """The form of a request to sample. Raises InvalidInput, LimitExceeded, Overloaded, HTTPException (400)."""
    refuse_query(body)
    return read_form(body, SampleRequest, reservation)


def parse_images(
    body: Body,
    registry: Registry,
    settings: Settings,
    reservation: Reservation,
    options: type[Options],
    request: type[Options],
) -> ImageForm[Options]:
    """The options and the picture files of a request with images, in JSON a `request`. Decodes no picture.

    Raises InvalidInput, LimitExceeded, Unknown, HTTPException (400) when the body breaks the rules of its media type,
    and Overloaded when there is no room for so many images or bytes.
    """
    said, pictures = options_and_pictures(body, options, request, settings.max_batch, reservation)
    if body.options.media_type != NPY:
        codec.check_batch(len(pictures), settings.max_batch, "images")
    reservation.check_images(len(pictures))
    return ImageForm(registry.find(said.model), said, pictures, npy=body.options.media_type == NPY)


def quick_images(form: ImageForm[Any], settings: Settings) -> Images | None:
    """The images, uint8 [N, *image_shape], if decoding them takes no more time than copying them; else None.

    This is so for an npy batch of the model's shape, and for PNGs of that shape with grey pixels only.
    """
    contract = form.model.autoencoder.contract
    if form.options.preprocess == "digit":
        return None
    if form.npy:
        images = codec.parse_npy(cast("bytes", form.pictures[0]))
        return images if images.shape[1:] == contract.image_shape and 1 <= len(images) <= settings.max_batch else None
    return codec.images_from_small_pngs(form.pictures, contract.image_shape, max_pixels=settings.max_pixels)


def decode_images(form: ImageForm[Any], settings: Settings, reservation: Reservation) -> Images:
    """The images of a request, decoded and preprocessed: uint8 [N, *image_shape]. Large pictures take milliseconds.

    Raises InvalidInput, LimitExceeded, Overloaded.
    """
    if not form.npy:
        image_bytes = math.prod(form.model.autoencoder.contract.image_shape)
        # Images one by one, and together; and where a digit was found in each.
        reservation.hold_bytes(len(form.pictures) * (2 * image_bytes + _FOUND_BYTES))
    images = quick_images(form, settings)
    if images is not None:
        return images
    contract = form.model.autoencoder.contract
    form.found = found = list[Found | None]()
    options: Any = {
        "preprocess": form.options.preprocess,
        "background": contract.background,
        "box": box_of(form.model.engine.examples, contract.background),
        "max_pixels": settings.max_pixels,
        "found": found,
        "hold": reservation.hold_bytes,
    }
    if form.npy:
        data = cast("bytes", form.pictures[0])
        return codec.images_from_npy(data, contract.image_shape, max_batch=settings.max_batch, **options)
    return codec.images_from_pictures(form.pictures, contract.image_shape, **options)


def read_latents(
    body: Body, registry: Registry, settings: Settings, reservation: Reservation
) -> tuple[Model, npt.NDArray[np.float32], float]:
    """The model, the latents and the sharpness of a request to decode.

    The latents are float32 [N, latent_dim], and may still be infinite.

    Raises InvalidInput, LimitExceeded, Overloaded, Unknown, HTTPException (400).
    """
    query = read_options(body.options.query, LatentOptions)
    if body.options.media_type == NPY:
        z = codec.parse_latents(body.data)
        codec.check_batch(len(z), settings.max_batch, "z")
        model = registry.find(query.model)
        if z.shape[1] != (latent_dim := model.autoencoder.contract.latent_dim):
            raise InvalidInput([Fault(("z",), f"{z.shape[1]} values for each image; the model takes {latent_dim}.")])
        return model, z, query.sharpness
    form = read_form(body, DecodeRequest, reservation)
    if body.options.query:
        form = _merge(form, query)
    codec.check_batch(len(form.z), settings.max_batch, "z")
    model = registry.find(form.model)
    return model, latents_of(form.z, model), form.sharpness


def latents_of(z: list[list[float]], model: Model) -> npt.NDArray[np.float32]:
    """Latents from JSON, float32 [N, latent_dim]. They may still be infinite. Raises InvalidInput for other lengths."""
    latent_dim = model.autoencoder.contract.latent_dim
    faults = [
        Fault(("z", index), f"{len(latent)} values; the model takes {latent_dim}.")
        for index, latent in enumerate(z)
        if len(latent) != latent_dim
    ]
    if faults:
        raise InvalidInput(faults)
    with np.errstate(
        over="ignore"
    ):  # a number too large for float32 becomes infinite, and infinite latents are refused later
        return np.array(z, np.float32)


def options_and_pictures(
    body: Body, options: type[Options], request: type[Options], max_batch: int, reservation: Reservation
) -> tuple[Options, Sequence[bytes | str]]:
    """The options from the body and the query, and the picture files: base64 text from JSON, else bytes.

    JSON is read as a `request`, which has the same options and `images`.
    """
    query = read_options(body.options.query, options) if body.options.query else None
    said: Options
    pictures: Sequence[bytes | str]
    if body.options.media_type == JSON:
        form: Any = read_form(body, request, reservation)
        said, pictures = form, form.images
    elif body.options.media_type == MULTIPART:
        data, body.data = body.data, b""
        large = len(data) > SMALL_BYTES
        if large:
            reservation.hold_bytes(2 * len(data))  # each part in pieces, and joined
        fields, pictures = read_multipart(data, body.options.parameters, partial(_check_parts, max_batch, options))
        if large:
            reservation.hold_bytes(-2 * len(data))  # the body goes, its parts stay
        said = read_options(fields, options)
    else:
        data, body.data = body.data, b""
        return query or _default_options(options), [data]
    return said if query is None else _merge(said, query), pictures


def _merge(body: AnyOptions, query: BaseModel) -> AnyOptions:
    """The options of the body, completed by those of the query. In JSON, null is the same as no value.

    Raises InvalidInput when body and query give different values for the same option.
    """
    in_body = {name for name in body.model_fields_set if getattr(body, name) is not None}
    in_query = {name: getattr(query, name) for name in sorted(query.model_fields_set)}
    faults = [
        Fault((name,), "The query and the body give different values.")
        for name, value in in_query.items()
        if name in in_body and getattr(body, name) != value
    ]
    if faults:
        raise InvalidInput(faults)
    return body.model_copy(update=in_query)


def _check_parts(max_batch: int, options: type[Options], fields: list[tuple[str, str]], pictures: int) -> None:
    """Raise if a multipart body has too many pictures (LimitExceeded) or too many fields (InvalidInput)."""
    codec.check_batch(max(1, pictures), max_batch, "images")
    if len(fields) > len(options.model_fields):
        read_options(fields, options)  # raises: with more fields than options, one is repeated or unknown


@cache
def _default_options(options: type[AnyOptions]) -> AnyOptions:
    return options.model_validate({})


def read_options(items: list[tuple[str, str]], options: type[AnyOptions]) -> AnyOptions:
    """The options in the text of a query or a form. Raises InvalidInput."""
    if not items:
        default: AnyOptions = _default_options(options)
        return default
    values = dict(items)
    if len(values) < len(items):
        counts = Counter(name for name, _ in items)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise InvalidInput([Fault((name,), "Given more than once.") for name in twice[:MOST_FAULTS]])
    try:
        return options.model_validate_strings(values)
    except ValidationError as error:
        raise refusal(error) from error


def refuse_query(body: Body) -> None:
    """Raise InvalidInput when the request has a query."""
    if body.options.query:
        reason = "This route takes no query parameters."
        raise InvalidInput([Fault((name,), reason) for name, _ in body.options.query[:MOST_FAULTS]])


def _count_values(data: bytes, most: int) -> int:
    """The number of values in JSON, at most. Raises LimitExceeded if there are more than `most`."""
    values = data.count(b",") + data.count(b"[") + data.count(b"{") + 1
    if values > most:
        raise LimitExceeded(f"The body holds more than {most} values.")
    return values


def refusal(error: ValidationError) -> Exception:
    """Our error for one of pydantic: the same paths and sentences, without the client's values."""
    if error.error_count() > MOST_FAULTS:
        return InvalidInput([Fault((), f"{error.error_count()} things in it cannot be used, too many to name.")])
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    kind, place, sentence = problems[0]["type"], tuple(problems[0]["loc"]), f"{problems[0]['msg']}."
    if kind == "json_invalid":
        return HTTPException(400, f"The body is not JSON. {sentence}")
    if kind == "too_long" and place in (("images",), ("z",), ("input",)):
        return LimitExceeded(sentence, place)
    return InvalidInput([Fault(tuple(problem["loc"]), f"{problem['msg']}.") for problem in problems])
