"""The Open Inference Protocol in the generator: what is asked over it, and what it must be answered."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable
from typing import Final

from harness.codings import zstd
from harness.digits import base64_png, digits, encoded

ENCODER: Final = "/v2/models/mnist-mlp.encoder"
INFER: Final = f"{ENCODER}/infer"
INDEX: Final = "/v2/repository/index"

PAGES: Final = (
    *("/v2", "/v2/health/live", "/v2/health/ready", ENCODER, f"{ENCODER}/versions/2/ready"),
    "/v2/models/mnist-mlp.sample/config",
)
CHANGING: Final = ("/v2/models/stats", f"{ENCODER}/stats")

LENGTH: Final = b"inference-header-content-length"
# The fields that what is asked depends on.
FIELDS: Final = (LENGTH, b"content-encoding", b"accept-encoding")
_CODINGS: Final = (b"", b"identity", b"gzip", b"x-gzip", b"deflate", b"zstd")

_TEMPLATES: Final = {
    r"/v2/models/[^/]+(/versions/[^/]+)?/infer": "POST",
    r"/v2/repository/models/[^/]+/(un)?load": "POST",
    r"/v2/models/[^/]+(/versions/[^/]+)?(/(ready|config|stats))?": "GET",
}

_GZIP: Final = (b"content-encoding", b"gzip")
_DEFLATE: Final = (b"content-encoding", b"deflate")
_RAW: Final = (LENGTH, b"0")

Sent = tuple[str, bytes, int, tuple[tuple[bytes, bytes], ...]]


def _json(count: int, *, shape: tuple[int, ...] | None = None, **fields: object) -> bytes:
    images = digits()[:count]
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape or images.shape, "data": images.ravel().tolist()}
    return json.dumps({"inputs": [tensor], **fields}).encode()


def _binary(count: int, **fields: object) -> tuple[bytes, tuple[bytes, bytes]]:
    """A body with bytes after the JSON, and the field that says where they begin."""
    images = digits()[:count]
    size = {"binary_data_size": images.nbytes}
    tensor = {"name": "image", "datatype": "UINT8", "shape": images.shape, "parameters": size}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **fields}).encode()
    return text + images.tobytes(), (LENGTH, b"%d" % len(text))


def _sample(count: int) -> bytes:
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [count]}
    return json.dumps({"inputs": [tensor], "parameters": {"seed": 7}}).encode()


_BODY, _SAYS = _binary(1, id="a")
_MANY, _SAY = _binary(20)
_PICTURES: Final = {"name": "pictures", "datatype": "BYTES", "shape": [1], "data": [base64_png(digits()[2])]}

# Paths, bodies, statuses, and fields of the head.
QUESTIONS: Final[tuple[Sent, ...]] = (
    (INFER, _BODY, 200, (_SAYS,)),
    (f"{ENCODER}/versions/1/infer", _BODY, 200, (_SAYS,)),
    (INFER, _MANY, 200, (_SAY,)),
    (INFER, _json(1), 200, ()),
    (INFER, _json(3), 200, ()),
    (INFER, digits()[5:7].tobytes(), 200, (_RAW,)),
    (INFER, gzip.compress(_BODY, mtime=0), 200, (_SAYS, _GZIP)),
    (INFER, zlib.compress(_json(3)), 200, (_DEFLATE,)),
    (INFER, zstd.compress(_BODY), 200, (_SAYS, (b"content-encoding", b"zstd"))),
    ("/v2/models/mnist-mlp.encode/infer", encoded(digits()[1]), 200, (_RAW,)),
    ("/v2/models/mnist-mlp.reconstruct/infer", json.dumps({"inputs": [_PICTURES]}).encode(), 200, ()),
    ("/v2/models/mnist-mlp.sample/infer", _sample(3), 200, ((b"accept-encoding", b"gzip"),)),
    (INDEX, b"", 200, ()),
    (INDEX, b'{"ready": true}', 200, ()),
    (INDEX, b"[", 400, ()),
    (INDEX, b" " * 5000, 413, ()),
    ("/v2/models/nobody.encoder/infer", _json(1), 404, ()),
    (INFER, b"", 400, ()),
    (INFER, _BODY, 400, ()),
    (INFER, _BODY, 400, ((LENGTH, b"100000"),)),
    (INFER, _BODY, 400, ((LENGTH, b"0x10"),)),
    (INFER, _BODY + b"x", 400, (_SAYS,)),
    (INFER, digits()[5].tobytes()[:-1], 400, (_RAW,)),
    (INFER, _json(1, shape=(1, 28, 27)), 400, ()),
    (INFER, _json(1, shape=(10**30, 28, 28)), 413, ()),
    (INFER, _BODY, 400, (_SAYS, _GZIP)),
    (INFER, gzip.compress(_BODY, mtime=0)[:-1], 400, (_SAYS, _GZIP)),
    (INFER, gzip.compress(bytes(2**20), mtime=0), 413, (_GZIP,)),
    (INFER, _BODY, 415, (_SAYS, (b"content-encoding", b"br"))),
    ("/v2/repository/models/mnist-mlp.encoder/unload", b"{}", 403, ()),
)

PATHS: Final = frozenset(path for path, *_ in QUESTIONS)


def method_of(path: str) -> str | None:
    """The method of a route whose template this path fits."""
    return next((method for pattern, method in _TEMPLATES.items() if re.fullmatch(pattern, path)), None)


def may_be_answered(path: str, values: Callable[[bytes], list[bytes]], *, whole: bool) -> frozenset[int]:
    """The statuses of a POST that is not among the questions, whose fields are `values` of their names.

    Unless its body is here as a `whole`, those that may be sent before it is.
    """
    if path == INDEX:
        return frozenset({200, 400, 413, 415} if whole else {413})
    if not path.endswith("/infer"):
        return frozenset({403})
    codings = b",".join(values(b"content-encoding")).lower().split(b",")
    lengths = values(LENGTH)
    statuses = {200, 400, 404, 413, 415} if whole else {413}
    if len(codings) > 2 or any(coding.strip() not in _CODINGS for coding in codings):
        statuses |= {415}
    if any(not re.fullmatch(rb"\d{1,10}", length) for length in lengths):
        statuses |= {400}
    return frozenset(statuses)
