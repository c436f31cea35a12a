"""The requests of the benchmark: one digit or many, in every form that the service takes and gives."""

from __future__ import annotations

import base64
import functools
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.serving.peers import GRAPH
from harness.digits import decoded, digits, encoded
from harness.paths import DIGIT

JSON: Final = "application/json"
PNG: Final = "image/png"
NPY: Final = "application/x-npy"
BOUNDARY: Final = "vae-bench-boundary"


@dataclass(frozen=True)
class Request:
    """One POST, sent again and again; if there are `others`, bodies without line breaks, all of them in turns.

    `headers` are those it has besides, as names and values.
    """

    path: str
    body: bytes
    content_type: str = JSON
    accept: str = JSON
    images: int = 1
    others: tuple[bytes, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, port: int) -> bytes:
        """The request as it goes over the wire, up to its body."""
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {self.content_type}\r\n"
            f"Accept: {self.accept}\r\nContent-Length: {len(self.body)}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            + "\r\n"
        ).encode()


@functools.cache
def pictures(count: int) -> tuple[bytes, ...]:
    """PNG files of so many digits: the one that every server gets, or different ones of MNIST's test set."""
    if count == 1:
        return (DIGIT.read_bytes(),)
    images = digits()
    return tuple(encoded(images[index % len(images)]) for index in range(count))


def json_body(count: int) -> bytes:
    """The service's own JSON form."""
    return _json_of(pictures(count))


def different_bodies(count: int) -> tuple[bytes, ...]:
    """The service's own JSON form of so many digits, each alone."""
    return tuple(_json_of([picture]) for picture in pictures(count))


def _json_of(files: Sequence[bytes], **options: object) -> bytes:
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]} | options).encode()


def npy_body(count: int) -> bytes:
    """The pixels as one npy array, uint8 [count, 28, 28]."""
    images = digits()
    stream = io.BytesIO()
    np.save(stream, images[np.arange(count) % len(images)])
    return stream.getvalue()


def multipart_body() -> bytes:
    """One picture as a form's field `images`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="digit.png"\r\n'
    return f"{head}Content-Type: {PNG}\r\n\r\n".encode() + pictures(1)[0] + f"\r\n--{BOUNDARY}--\r\n".encode()


def field_body() -> bytes:
    """One object with one picture, for servers that gather batches themselves."""
    return json.dumps({"image": base64.b64encode(pictures(1)[0]).decode()}).encode()


def inference_protocol_body() -> bytes:
    """One picture in the Open Inference Protocol's JSON, as a BYTES tensor."""
    text = base64.b64encode(pictures(1)[0]).decode()
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    return json.dumps({"inputs": [tensor]}).encode()


def graph_request(*, binary: bool) -> Request:
    """The pixels of one digit for the encoder itself, over the Open Inference Protocol: as numbers, or as bytes.

    Outputs come in the form of the input. Every server of the protocol gets these bytes.
    """
    path, pixels = f"/v2/models/{GRAPH}/infer", decoded(pictures(1)[0])[None]
    tensor: dict[str, object] = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8"}
    if not binary:
        return Request(path, json.dumps({"inputs": [tensor | {"data": pixels.reshape(-1).tolist()}]}).encode())
    tensor["parameters"] = {"binary_data_size": pixels.nbytes}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = (("Inference-Header-Content-Length", str(len(text))),)
    return Request(path, text + pixels.tobytes(), "application/octet-stream", "*/*", headers=headers)


ENCODE: Final = Request("/encode", json_body(1))
SAMPLE: Final = Request("/sample", b'{"n": 8}', images=8)

# One digit a request: what it is sent as, and what comes back.
SINGLE: Final[dict[str, Request]] = {
    f"/{verb} {sent} to {got}": Request(f"/{verb}", body, content_type, accept)
    for verb, answers in (
        ("encode", (("JSON", JSON), ("npy", NPY))),
        ("reconstruct", (("JSON", JSON), ("PNG", PNG), ("npy", NPY))),
    )
    for got, accept in answers
    for sent, content_type, body in (
        ("JSON", JSON, json_body(1)),
        ("multipart", f"multipart/form-data; boundary={BOUNDARY}", multipart_body()),
        ("PNG", PNG, pictures(1)[0]),
        ("npy", NPY, npy_body(1)),
    )
    # Answers that are not JSON are asked for in the forms that go with them.
    if got == "JSON" or sent == got
} | {"/encode JSON to JSON, 200 digits in turns": Request("/encode", json_body(1), others=different_bodies(200))}


def batch(kind: str, count: int) -> Request:
    """A request with many digits, or one that makes many; `kind` is one of tight.py's, such as "encode JSON"."""
    verb, form = kind.split()
    if verb == "interpolate":  # about as many steps as pictures
        apart = next(apart for apart in range(math.isqrt(count - 1), 0, -1) if (count - 1) % apart == 0)
        return Request("/interpolate", _json_of(pictures(apart + 1), steps=(count - 1) // apart + 1), images=count)
    if verb == "traverse":
        dims = list(range(16))
        return Request("/traverse", _json_of(pictures(1), dims=dims, steps=count // len(dims)), images=count)
    if form == "npy":
        return Request(f"/{verb}", npy_body(count), NPY, NPY, count)
    return Request(f"/{verb}", json_body(count), images=count)
