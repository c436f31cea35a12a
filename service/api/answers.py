"""Answers: arrays become bytes, as JSON, PNG, npy or raw, whichever the Accept header asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from pybase64 import b64encode_as_string
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.api.request_head import JSON, LONGEST_TEXT, NPY
from service.contract import Contract
from service.images import codec
from service.images.preprocess import Images
from service.images.tone import sharpened

PNG: Final = "image/png"
RAW: Final = "application/octet-stream"

# The media types of each kind of answer. The first is the default.
LATENT_TYPES: Final = (JSON, NPY, RAW)
IMAGE_TYPES: Final = (JSON, PNG, NPY, RAW)

_QUALITY: Final = re.compile(r"0(\.[0-9]*)?|1(\.0*)?|\.[0-9]+")


@dataclass(slots=True)
class Answer:
    """An answer, ready to be sent. `headers` holds all headers but its type and length."""

    content: bytes
    media_type: bytes
    headers: list[tuple[bytes, bytes]]
    status: int = 200

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers. Type and length come first."""
        return [
            (b"content-type", self.media_type),
            (b"content-length", b"%d" % len(self.content)),
            *self.headers,
        ]

    def to_bytes(self, first: list[tuple[bytes, bytes]], *, keep_alive: bool, bare: bool = False) -> bytes:
        """The whole response of HTTP/1.1, the headers `first` before its own; a `bare` one has no body (for HEAD)."""
        lines = [b": ".join(header) for header in (*first, *self.all_headers())]
        if not keep_alive:
            lines.append(b"connection: close")
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[self.status], b"\r\n".join(lines), b"" if bare else self.content)


@lru_cache(maxsize=256)  # clients send few different ones, and parsing one takes as long as encoding a digit
def negotiate(accept: bytes, offered: tuple[str, ...]) -> str:
    """The offered media type that an Accept header prefers (RFC 9110, section 12.5.1). Of equal ones, the first.

    Raises HTTPException: 406 when it accepts none of them, 400 when its syntax is wrong or it is too long.
    """
    if not accept:
        return offered[0]
    if len(accept) > LONGEST_TEXT:
        raise HTTPException(400, f"The Accept header is longer than {LONGEST_TEXT} bytes.")
    ranges = [_media_range(item) for item in accept.decode("latin-1").split(",") if item.strip()]
    best, best_quality = "", 0.0
    for media_type in offered:
        kind = media_type.partition("/")[0]
        # The most specific range that matches decides.
        for wanted in (media_type, f"{kind}/*", "*/*"):
            qualities = [quality for name, quality in ranges if name == wanted]
            if qualities:
                if max(qualities) > best_quality:
                    best, best_quality = media_type, max(qualities)
                break
    if not best:
        raise HTTPException(406, f"This route answers with {', '.join(offered)}.")
    return best


def latents_answer(
    media_type: str, contract: Contract, fields: Mapping[str, Any], stacked: tuple[npt.NDArray[np.float32], ...]
) -> Answer:
    """Latents as an answer: `fields` as JSON, or `stacked`, arrays of float32 [N, latent_dim], as one array."""
    if media_type == JSON:
        return _json(contract, fields)
    return _array(media_type, contract, np.stack(stacked), fields)


def images_answer(
    media_type: str,
    contract: Contract,
    images: Images,
    fields: Mapping[str, Any],
    *,
    sharpness: float = 1.0,
    columns: int | None = None,
) -> Answer:
    """Images, uint8 [N, *image_shape], sharpened, as an answer: JSON with `fields`, a PNG, or the array.

    Several images are one PNG: a grid of so many columns, by default about as many as rows.
    """
    images = sharpened(images, sharpness)
    if media_type == JSON:
        return _json(contract, {"images": base64_pngs(images), **fields})
    if media_type == PNG:
        picture = images if len(images) == 1 else codec.grid(images, contract.background, columns)[np.newaxis]
        return Answer(codec.png_files(picture)[0], b"image/png", _headers(contract, fields))
    return _array(media_type, contract, images, fields)


def base64_pngs(images: Images) -> list[str]:
    """Each image, uint8 [N, H, W] or [N, H, W, 3], as a PNG in base64."""
    return [b64encode_as_string(file) for file in codec.png_files(images)]


def preview_cost(images: Images) -> int:
    """What `base64_pngs` of images takes in an answer, in bytes: rows, files, texts, and these in JSON.

    A PNG is at most a thousandth longer than its pixels, besides 100 bytes and a filter's number for each row.
    """
    count, height = len(images), int(images.shape[1])
    return 6 * (images.size + count * (height + 256))


def _json(contract: Contract, fields: Mapping[str, Any]) -> Answer:
    content = orjson.dumps({"model": contract.id, **fields}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(content, b"application/json", [])


def _array(media_type: str, contract: Contract, array: npt.NDArray[Any], fields: Mapping[str, Any]) -> Answer:
    headers = _headers(contract, fields)
    if media_type == NPY:
        return Answer(codec.npy_bytes(array), b"application/x-npy", headers)
    shape = ",".join(map(str, array.shape)).encode()
    headers += [(b"x-array-dtype", str(array.dtype).encode()), (b"x-array-shape", shape)]
    return Answer(array.tobytes(), b"application/octet-stream", headers)


def _headers(contract: Contract, fields: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Headers for answers that are only an array or a picture: what a JSON answer has in other fields."""
    dims = ",".join(map(str, fields["dims"])) if "dims" in fields else None
    values = [
        (b"x-model", contract.id),
        (b"x-seed", fields.get("seed")),
        (b"x-prior", fields.get("prior")),
        (b"x-temperature", fields.get("temperature")),
        (b"x-sharpness", fields.get("sharpness")),
        (b"x-dims", dims),
    ]
    return [(name, str(value).encode("ascii")) for name, value in values if value is not None]


def _media_range(item: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            if not _QUALITY.fullmatch(value.strip()):
                raise HTTPException(400, "The Accept header has a quality that is not a number between 0 and 1.")
            quality = float(value)
    return name, quality
