"""Requests of the protocol, and what their answers say."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import numpy as np
import numpy.typing as npt
from fastapi.testclient import TestClient

Array = npt.NDArray[Any]

LENGTH = "Inference-Header-Content-Length"
DTYPES = {"UINT8": np.uint8, "FP32": np.float32}


def tensor(name: str, datatype: str, array: Array, *, binary: bool = False) -> dict[str, Any]:
    """An input, with its data in the JSON or announced as bytes."""
    found: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    return found | ({"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.tolist()})


def images(array: Array, *, binary: bool = False) -> dict[str, Any]:
    return tensor("image", "UINT8", array, binary=binary)


def files(*pictures: bytes) -> bytes:
    """Elements of BYTES: each with its length before it."""
    return b"".join(len(picture).to_bytes(4, "little") + picture for picture in pictures)


def infer(
    client: TestClient,
    model: str,
    *inputs: dict[str, Any],
    tail: bytes = b"",
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    """Ask a model: JSON, and after it the tail, if there is one."""
    text = json.dumps({"inputs": inputs, **fields}).encode()
    length = {LENGTH: str(len(text))} if tail else {}
    return client.post(f"/v2/models/{model}/infer", content=text + tail, headers=length | (headers or {}))


def outputs(answer: httpx.Response) -> dict[str, Array]:
    """The outputs of an answer as arrays, whether in JSON or as bytes."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    rest, found = answer.content[length:], dict[str, Array]()
    for output in json.loads(answer.content[:length])["outputs"]:
        dtype, size = DTYPES[output["datatype"]], output.get("parameters", {}).get("binary_data_size")
        values = np.array(output["data"], dtype) if size is None else np.frombuffer(rest[:size], dtype)
        rest = rest[size or 0 :]
        found[output["name"]] = values.reshape(output["shape"])
    assert rest == b""
    return found


def error(answer: httpx.Response) -> str:
    """The sentence of an answer that is an error."""
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return str(document["error"])
