"""A request's head: what it announces of its body, and what it asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from service.errors import LimitExceeded

JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
NPY: Final = "application/x-npy"
PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
IMAGE_BODIES: Final = (JSON, MULTIPART, *PICTURES, NPY)

# The longest header or query that is read. What is read is also remembered, so this bounds the memory of a cache, too.
LONGEST_TEXT: Final = 8 * 1024


@dataclass(slots=True)
class RequestOptions:
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
class RequestHead:
    """What comes before a request's body; names of headers are in lower case.

    `length` is the body's in bytes, or None where none is announced that can be read. Clients send the same head again
    and again, so one of these may stand for many requests, with the `options` that were made of it once.
    """

    path: str
    headers: Mapping[bytes, bytes]
    query: bytes
    length: int | None
    options: RequestOptions | None = None


def make_head(path: str, headers: Mapping[bytes, bytes], query: bytes) -> RequestHead:
    """The head that these make, with the length that its headers announce."""
    return RequestHead(path, headers, query, content_length(headers))


def content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """The body's length in bytes by its Content-Length, or None where there is none that can be read."""
    digits = headers.get(b"content-length", b"")
    # Twenty digits that do not begin with a zero are more than any limit, and not too many to be read as a number.
    return int(digits.lstrip(b"0")[:20] or b"0") if digits.isdigit() else None


def read_head(
    head: RequestHead, takes: tuple[str, ...], answer_type: str, max_bytes: int, most_seconds: float
) -> RequestOptions:
    """What the head asks for, where it is a body of one of the media types that the route `takes`.

    Raises HTTPException (415 when it is another, 400 when the head is too long to look into or its timeout is none),
    and LimitExceeded when more than `max_bytes` are announced.
    """
    seconds = min(timeout(head.headers.get(b"x-request-timeout-ms")), most_seconds)
    media_type, parameters = _media_type(head.headers.get(b"content-type", b""))
    if media_type not in takes:
        raise HTTPException(415, f"The body must be {_either(takes)}, by its Content-Type.")
    if head.length is not None and head.length > max_bytes:
        raise too_large(max_bytes)
    if len(head.query) > LONGEST_TEXT:
        raise HTTPException(400, f"The query is longer than {LONGEST_TEXT} bytes.")
    query = QueryParams(head.query).multi_items() if head.query else []
    return RequestOptions(media_type, parameters, query, answer_type, seconds)


def timeout(header: bytes | None) -> float:
    """The seconds that X-Request-Timeout-Ms allows, infinite without one. Raises HTTPException (400)."""
    if header is None:
        return math.inf
    if not header.isdigit() or len(header) > 9 or int(header) == 0:
        raise HTTPException(400, "X-Request-Timeout-Ms must be a number of milliseconds, 1 to 999999999.")
    return int(header) / 1e3


def too_large(max_bytes: int) -> LimitExceeded:
    """The refusal of a body that has more than `max_bytes`."""
    return LimitExceeded(f"The body is larger than {max_bytes} bytes.")


@lru_cache(maxsize=256)
def _media_type(content_type: bytes) -> tuple[str, Mapping[bytes, bytes]]:
    if len(content_type) > LONGEST_TEXT:
        raise HTTPException(400, f"The Content-Type is longer than {LONGEST_TEXT} bytes.")
    name, parameters = parse_options_header(content_type)
    return name.decode("latin-1"), parameters


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
