"""From a request's bytes to the application's arrays: JSON, multipart, one raw picture, or a raw npy batch.

Reading the body is the only thing here that waits. The rest is plain functions of bytes, to be run off the event loop.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive

from service.api.schemas import DecodeRequest, ImageOptions, ImageRequest
from service.contract import Contract
from service.errors import Fault, InvalidInput, LimitExceeded
from service.images import codec
from service.images.preprocess import Images
from service.inference.admission import Ticket
from service.inference.registry import Model, Registry
from service.settings import Settings

JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
NPY: Final = "application/x-npy"
PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
IMAGE_BODIES: Final = (JSON, MULTIPART, *PICTURES, NPY)

# The longest header or query that is read. What is read is also remembered, so this bounds the memory of a cache, too.
LONGEST_TEXT: Final = 8 * 1024

# A refusal that names more than this helps nobody, and a request of a million wrong fields must not cost a million.
_MOST_FAULTS: Final = 100

# The most values in a JSON body, whatever its size in bytes: of latents' numbers more than of anything else.
_MOST_NUMBERS: Final = 2**20
_MOST_VALUES: Final = 2**17

_DEFAULT_OPTIONS: Final = ImageOptions.model_validate({})

Form = TypeVar("Form", bound=BaseModel)

# Gives a request's body, if it has at most so many bytes.
Read = Callable[[int], Awaitable[bytes]]


@dataclass(slots=True)
class Terms:
    """What a request's head asks for, found to be something that the route can do.

    `media_type` and its `parameters` are the body's, `query` the pairs in the path, `answer_type` the media type of the
    answer, and `timeout` the seconds it may take.
    """

    media_type: str
    parameters: Mapping[bytes, bytes] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    answer_type: str = JSON
    timeout: float = math.inf


@dataclass(slots=True)
class Head:
    """What comes before a request's body; names of headers are in lower case.

    `length` is the body's in bytes, or None where none is announced that can be read. Clients send the same head again
    and again, so one of these may stand for many requests, with the `terms` that were made of it once.
    """

    path: str
    headers: Mapping[bytes, bytes]
    query: bytes
    length: int | None
    terms: Terms | None = None


@dataclass(slots=True)
class Body:
    """A request's body, and the terms it came on."""

    data: bytes
    terms: Terms


@dataclass(slots=True)
class ImageBatch:
    """Images uint8 [N, *image_shape] for `model`, and what is to be done with them."""

    model: Model
    options: ImageOptions
    images: Images


def make_head(path: str, headers: Mapping[bytes, bytes], query: bytes) -> Head:
    """The head that these make, with the length that its headers announce."""
    digits = headers.get(b"content-length", b"")
    # Twenty digits that do not begin with a zero are more than any limit, and not too many to be read as a number.
    return Head(path, headers, query, int(digits.lstrip(b"0")[:20] or b"0") if digits.isdigit() else None)


def read_head(head: Head, takes: tuple[str, ...], answer_type: str, max_bytes: int) -> Terms:
    """What the head asks for, where it is a body of one of the media types that the route `takes`.

    Raises HTTPException (415 when it is another, 400 when the head is too long to look into or its timeout is none),
    and LimitExceeded when more than `max_bytes` are announced.
    """
    wanted = timeout(head.headers.get(b"x-request-timeout-ms"))
    media_type, parameters = _media_type(head.headers.get(b"content-type", b""))
    if media_type not in takes:
        raise HTTPException(415, f"The body must be {_either(takes)}, by its Content-Type.")
    if head.length is not None and head.length > max_bytes:
        raise _too_large(max_bytes)
    if len(head.query) > LONGEST_TEXT:
        raise HTTPException(400, f"The query is longer than {LONGEST_TEXT} bytes.")
    query = QueryParams(head.query).multi_items() if head.query else []
    return Terms(media_type, parameters, query, answer_type, wanted)


async def receive_body(receive: Receive, ticket: Ticket, max_bytes: int) -> bytes:
    """The body that an ASGI server hands over, its bytes counted as they arrive, and held by the ticket.

    Raises LimitExceeded as soon as more than `max_bytes` have come, Overloaded when all bodies that are arriving take
    more than they may, and HTTPException (400) when the client goes.
    """
    chunks: list[bytes] = []
    received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "The connection closed before the body was complete.")
        chunks.append(message.get("body", b""))
        received += len(chunks[-1])
        if received > max_bytes:
            raise _too_large(max_bytes)
        ticket.hold_bytes(len(chunks[-1]))
        more = message.get("more_body", False)
    return b"".join(chunks)


def timeout(header: bytes | None) -> float:
    """The seconds that X-Request-Timeout-Ms allows, infinite without one. Raises HTTPException (400)."""
    if header is None:
        return math.inf
    if not header.isdigit() or len(header) > 9 or int(header) == 0:
        raise HTTPException(400, "X-Request-Timeout-Ms must be a number of milliseconds, 1 to 999999999.")
    return int(header) / 1e3


def _too_large(max_bytes: int) -> LimitExceeded:
    return LimitExceeded(f"The body is larger than {max_bytes} bytes.")


@lru_cache(maxsize=256)
def _media_type(content_type: bytes) -> tuple[str, Mapping[bytes, bytes]]:
    if len(content_type) > LONGEST_TEXT:
        raise HTTPException(400, f"The Content-Type is longer than {LONGEST_TEXT} bytes.")
    name, parameters = parse_options_header(content_type)
    return name.decode("latin-1"), parameters


def read_form(body: Body, form: type[Form]) -> Form:
    """A JSON body as one of the request schemas. Raises HTTPException (400, not JSON) and InvalidInput."""
    _refuse_query(body, "A JSON request takes no query parameters.")
    _check_values(body.data, _MOST_NUMBERS if form is DecodeRequest else _MOST_VALUES)
    try:
        # What model_validate_json calls, too, after options of its own that take half as long again.
        read: Form = form.__pydantic_validator__.validate_json(body.data, strict=True)
    except ValidationError as error:
        raise _refusal(error) from error
    return read


def read_images(body: Body, registry: Registry, settings: Settings, ticket: Ticket) -> ImageBatch:
    """The images of a request in any of its forms, fitted to the model that it names.

    Raises InvalidInput, LimitExceeded, Unknown, and HTTPException (400) for a body that does not keep its own format;
    Overloaded, before a picture is decoded, when there is no room for so many.
    """
    options, pictures = _options_and_pictures(body, settings.max_batch)
    ticket.expect(len(pictures))
    model = registry.find(options.model)
    contract = model.autoencoder.contract
    images = _quick_images(body, options, pictures, contract, settings)
    if images is not None:
        return ImageBatch(model, options, images)
    if body.terms.media_type == NPY:
        images = codec.images_from_npy(
            body.data,
            contract.image_shape,
            preprocess=options.preprocess,
            background=contract.background,
            max_batch=settings.max_batch,
            max_pixels=settings.max_pixels,
        )
    else:
        codec.check_batch(len(pictures), settings.max_batch, "images")
        images = codec.images_from_pictures(
            pictures,
            contract.image_shape,
            preprocess=options.preprocess,
            background=contract.background,
            max_pixels=settings.max_pixels,
        )
    return ImageBatch(model, options, images)


def read_quick_images(body: Body, registry: Registry, settings: Settings, ticket: Ticket) -> ImageBatch | None:
    """As `read_images` where that takes no more time than the bytes of its images; else None."""
    options, pictures = _options_and_pictures(body, settings.max_batch)
    ticket.expect(len(pictures))
    model = registry.find(options.model)
    images = _quick_images(body, options, pictures, model.autoencoder.contract, settings)
    return None if images is None else ImageBatch(model, options, images)


def _quick_images(
    body: Body, options: ImageOptions, pictures: Sequence[bytes | str], contract: Contract, settings: Settings
) -> Images | None:
    """Images that had the model's shape as they came, an npy batch or PNGs of only grey pixels; else None."""
    if options.preprocess == "digit":
        return None
    if body.terms.media_type == NPY:
        images = codec.parse_npy(body.data)
        return images if images.shape[1:] == contract.image_shape and 1 <= len(images) <= settings.max_batch else None
    if not 1 <= len(pictures) <= settings.max_batch:
        return None
    return codec.images_from_small_pngs(pictures, contract.image_shape, max_pixels=settings.max_pixels)


def read_latents(body: Body, registry: Registry, settings: Settings) -> tuple[Model, npt.NDArray[np.float32]]:
    """The model and the latents float32 [N, latent_dim] of a request to decode; a latent may still not be finite.

    Raises InvalidInput, LimitExceeded, Unknown, HTTPException (400).
    """
    form = read_form(body, DecodeRequest)
    codec.check_batch(len(form.z), settings.max_batch, "z")
    model = registry.find(form.model)
    latent_dim = model.autoencoder.contract.latent_dim
    faults = [
        Fault(("z", index), f"{len(latent)} values; the model takes {latent_dim}.")
        for index, latent in enumerate(form.z)
        if len(latent) != latent_dim
    ]
    if faults:
        raise InvalidInput(faults)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is refused as such
        return model, np.array(form.z, np.float32)


def _options_and_pictures(body: Body, max_batch: int) -> tuple[ImageOptions, Sequence[bytes | str]]:
    """What is said about the images, and the picture files: base64 texts from JSON, else bytes."""
    if body.terms.media_type == JSON:
        form = read_form(body, ImageRequest)
        return form, form.images
    if body.terms.media_type == MULTIPART:
        _refuse_query(body, "A multipart request takes no query parameters.")
        fields, pictures = _read_multipart(body, max_batch)
        return _read_options(fields), pictures
    return _read_options(body.terms.query), [body.data]


def _read_options(items: list[tuple[str, str]]) -> ImageOptions:
    if not items:
        return _DEFAULT_OPTIONS
    options = dict(items)
    if len(options) < len(items):
        counts = Counter(name for name, _ in items)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise InvalidInput([Fault((name,), "Given more than once.") for name in twice[:_MOST_FAULTS]])
    try:
        return ImageOptions.model_validate_strings(options)
    except ValidationError as error:
        raise _refusal(error) from error


def _refuse_query(body: Body, reason: str) -> None:
    if body.terms.query:
        raise InvalidInput([Fault((name,), reason) for name, _ in body.terms.query[:_MOST_FAULTS]])


def _read_multipart(body: Body, max_batch: int) -> tuple[list[tuple[str, str]], list[bytes]]:
    """The fields of a multipart body, but for `images`, and the pictures in `images`, all in memory.

    Of a body of a hundred thousand small parts it reads no more than those that decide that it is refused.
    """
    fields: list[tuple[str, str]] = []
    pictures: list[bytes] = []
    ended = False

    def add_picture(file: bytes) -> None:
        pictures.append(file)
        codec.check_batch(len(pictures), max_batch, "images")

    def on_field(field: Field) -> None:
        name, value = (field.field_name or b"").decode("utf-8", "replace"), field.value or b""
        if name == "images":
            add_picture(value)
            return
        fields.append((name, value.decode("utf-8", "replace")))
        if len(fields) > len(ImageOptions.model_fields):
            _read_options(fields)  # which refuses them: one is given twice, or there is no such option

    def on_file(file: File) -> None:
        if file.field_name != b"images":
            name = (file.field_name or b"").decode("utf-8", "replace")
            raise InvalidInput([Fault((name,), "Pictures belong into the field images.")])
        add_picture(file.file_object.getvalue())  # type: ignore[union-attr]  # in memory, as configured below

    def on_end() -> None:
        nonlocal ended
        ended = True

    try:
        if b"boundary" not in body.terms.parameters:
            raise FormParserError  # as the parser would, which would also log it as an error of ours
        parser = FormParser(
            MULTIPART,
            on_field,
            on_file,
            on_end,
            boundary=body.terms.parameters[b"boundary"],
            # The body is in memory and within its limit already; a second copy on disk would need a disk to write to.
            config={"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True},
        )
        parser.write(body.data)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, "The body is not multipart/form-data as its Content-Type announces it.") from error
    if not ended:  # the parser keeps silent about a body that stops midway, and its last picture would be lost
        raise HTTPException(400, "The multipart body ends before its closing boundary.")
    return fields, pictures


def _check_values(data: bytes, most: int) -> None:
    """Raise LimitExceeded when JSON holds more than `most` values: in memory each takes up to a hundred bytes."""
    if len(data) > most and data.count(b",") + data.count(b"[") + data.count(b"{") > most:
        raise LimitExceeded(f"The body holds more than {most} values.")


def _refusal(error: ValidationError) -> Exception:
    """Our error for pydantic's, with its paths and its sentences, and never with the client's values."""
    if error.error_count() > _MOST_FAULTS:
        return InvalidInput([Fault((), f"{error.error_count()} things in it cannot be used, too many to name.")])
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    kind, place, sentence = problems[0]["type"], tuple(problems[0]["loc"]), f"{problems[0]['msg']}."
    if kind == "json_invalid":
        return HTTPException(400, f"The body is not JSON. {sentence}")
    if kind == "too_long" and place in (("images",), ("z",)):
        return LimitExceeded(sentence, place)
    return InvalidInput([Fault(tuple(problem["loc"]), f"{problem['msg']}.") for problem in problems])


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
