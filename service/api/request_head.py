"""The head of a request: the type and length of its body, and what the answer shall be."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
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
NDJSON: Final = "application/x-ndjson"
PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
IMAGE_BODIES: Final = (JSON, MULTIPART, *PICTURES, NPY)
SEVERAL_BODIES: Final = (JSON, MULTIPART, NPY)  # those that can hold more than one picture
LATENT_BODIES: Final = (JSON, NPY)
STREAMS: Final = (NDJSON, MULTIPART)

# Names that clients give to a media type, and its own.
_ALIASES: Final = {"image/jpg": "image/jpeg", "application/ndjson": NDJSON, "application/jsonl": NDJSON}

# The most bytes of a header or a query that is parsed. Caches keep parsed ones, so this also bounds their memory.
LONGEST_TEXT: Final = 8 * 1024

_LISTS: Final = frozenset({b"accept", b"accept-encoding", b"content-encoding"})

# A name, an IPv4 or an IPv6 address, or nothing; and a port (RFC 3986, section 3.2.2; RFC 9110, section 7.2).
_HOST: Final = re.compile(rb"((?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+(%25\w+)?\])(:[0-9]*)?")


@dataclass(slots=True)
class RequestOptions:
    """What a request's head asks for, checked against what the route can do.

    `media_type` and `parameters` are those of the body. `query` holds the pairs of the query. `answer_type` is the
    media type of the answer, and `timeout` the seconds that the request may take. `body_codings` are to be undone in
    the body, in this order. `answer_coding` is for an answer of `compress_from` bytes or more.
    """

    media_type: str
    parameters: Mapping[bytes, bytes] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    answer_type: str = JSON
    timeout: float = math.inf
    body_codings: tuple[str, ...] = ()
    answer_coding: str | None = None
    compress_from: int = sys.maxsize


@dataclass(slots=True)
class RequestHead:
    """A request without its body. Names of headers are in lower case.

    `length` is the body's length in bytes, or None if the head has no valid one. Clients send the same head again and
    again, so one object can serve many requests. `options` is filled in by the first of them.
    """

    path: str
    headers: Mapping[bytes, bytes]
    query: bytes
    length: int | None
    options: RequestOptions | None = None


def make_head(path: str, headers: Mapping[bytes, bytes], query: bytes) -> RequestHead:
    """A head with the length that its headers give."""
    return RequestHead(path, headers, query, content_length(headers))


def check_head(url: bytes, pairs: Sequence[tuple[bytes, bytes]], version: str) -> dict[bytes, bytes]:
    """The headers of a request to `url` by their names, in lower case; several lines of a list are one.

    Raises HTTPException for what the parser lets through: 400 for a target with a fragment, for a request of HTTP/1.1
    without exactly one Host, and for a Host that is none (RFC 9112, section 3.2); 501 for a transfer coding other than
    chunked (section 6.1); 505 for another version.
    """
    headers = header_map(pairs)
    if version not in ("1.1", "1.0"):
        raise HTTPException(505, "This is not HTTP/1.1.")
    if b"#" in url:
        raise HTTPException(400, "The request's target has a fragment.")
    hosts = [value for name, value in pairs if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise HTTPException(400, "A request has one Host header.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HTTPException(400, "The Host header is no host.")
    codings = [value.lower() for name, value in pairs if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        raise HTTPException(501, "The only transfer coding here is chunked.")
    return headers


def header_map(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by their names; several lines of one that is a list here are one list (RFC 9110, section 5.3)."""
    headers = dict(pairs)
    if len(headers) < len(pairs):
        for listed in _LISTS.intersection(headers):
            headers[listed] = b", ".join([value for name, value in pairs if name == listed])
    return headers


def content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """The body's length in bytes by its Content-Length, or None if there is no valid one."""
    digits = headers.get(b"content-length", b"")
    # Twenty digits without leading zeros are more than any limit, and few enough for int().
    return int(digits.lstrip(b"0")[:20] or b"0") if digits.isdigit() else None


def read_head(
    head: RequestHead, takes: tuple[str, ...], answer_type: str, max_bytes: float, most_seconds: float
) -> RequestOptions:
    """What the head of a request asks for. `takes` are the media types of bodies that the route accepts.

    Raises HTTPException (415 for another media type, 400 for a header or query that is too long or a bad timeout), and
    LimitExceeded when the body is longer than `max_bytes`.
    """
    seconds = min(timeout(head.headers.get(b"x-request-timeout-ms")), most_seconds)
    media_type, parameters = media_type_of(head)
    if media_type not in takes:
        raise HTTPException(415, f"The body must be {_either(takes)}, by its Content-Type.")
    if head.length is not None and head.length > max_bytes:
        raise too_large(max_bytes)
    if len(head.query) > LONGEST_TEXT:
        raise HTTPException(400, f"The query is longer than {LONGEST_TEXT} bytes.")
    query = QueryParams(head.query).multi_items() if head.query else []
    return RequestOptions(media_type, parameters, query, answer_type, seconds)


def timeout(header: bytes | None) -> float:
    """The seconds of X-Request-Timeout-Ms, infinite without it. Raises HTTPException (400)."""
    if header is None:
        return math.inf
    if not header.isdigit() or len(header) > 9 or int(header) == 0:
        raise HTTPException(400, "X-Request-Timeout-Ms must be a number of milliseconds, 1 to 999999999.")
    return int(header) / 1e3


def media_type_of(head: RequestHead) -> tuple[str, Mapping[bytes, bytes]]:
    """The media type of the body and its parameters. Raises HTTPException (400) when the header is too long."""
    return _media_type(head.headers.get(b"content-type", b""))


def too_large(max_bytes: float) -> LimitExceeded:
    """The error for a body of more than `max_bytes`."""
    return LimitExceeded(f"The body is larger than {max_bytes} bytes.")


def head_too_long(most: int) -> HTTPException:
    """The error for a head, or trailers, of more than `most` bytes."""
    return HTTPException(431, f"The request's head is longer than {most} bytes.")


@lru_cache(maxsize=256)
def _media_type(content_type: bytes) -> tuple[str, Mapping[bytes, bytes]]:
    if len(content_type) > LONGEST_TEXT:
        raise HTTPException(400, f"The Content-Type is longer than {LONGEST_TEXT} bytes.")
    name, parameters = parse_options_header(content_type)
    media_type = name.decode("latin-1")
    return _ALIASES.get(media_type, media_type), parameters


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
