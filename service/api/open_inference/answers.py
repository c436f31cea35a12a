"""Answers to inference requests: JSON, and after it the bytes of the outputs that shall be bytes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson

from service.api.answers import Answer
from service.api.open_inference.messages import Said
from service.api.open_inference.models import ServedModel, Signature
from service.api.open_inference.tensors import itemsize
from service.api.open_inference.work import Result

JSON_LENGTH: Final = b"inference-header-content-length"

# A number in JSON, and again while the text grows: a float32 has at most 16 characters with its comma. A character of
# an id is at most six bytes, as an escape.
_NUMBER_BYTES: Final = 2 * 16
_CHARACTER_BYTES: Final = 2 * 6


def answer_cost(result: Result, said: Said) -> tuple[int, int]:
    """The bytes that the answer takes besides the outputs, and how many numbers it has in JSON."""
    cost, numbers = _CHARACTER_BYTES * len(said.id or ""), 0
    for name, binary in said.outputs:
        output = result.outputs[name]
        if binary:
            cost += output.nbytes
        else:
            numbers += output.size
    return cost + _NUMBER_BYTES * numbers, numbers


def inference_answer(found: ServedModel, said: Said, result: Result) -> Answer:
    """The answer."""
    parts: list[Any] = [np.ascontiguousarray(result.outputs[name]) for name, binary in said.outputs if binary]
    if said.id is None and not result.parameters and len(parts) == len(said.outputs):
        shapes = tuple([result.outputs[name].shape for name, _ in said.outputs])
        text = _text_before_bytes(found.signature, found.version, said.outputs, shapes)
    else:
        text = _text(found.signature, found.version, said, result)
    headers = list[tuple[bytes, bytes]]()
    if parts:
        headers.append((JSON_LENGTH, b"%d" % len(text)))
    content = b"".join((text, *parts)) if parts else text
    return Answer(content, b"application/octet-stream" if parts else b"application/json", headers)


def _text(signature: Signature, version: str, said: Said, result: Result) -> bytes:
    """The JSON of an answer."""
    outputs = list[dict[str, Any]]()
    for name, binary in said.outputs:
        array = result.outputs[name]
        output = _heading(signature, name, array.shape)
        outputs.append(output | ({"parameters": _size(array.nbytes)} if binary else {"data": array.reshape(-1)}))
    document: dict[str, Any] = {"model_name": signature.name, "model_version": version}
    if said.id is not None:
        document["id"] = said.id
    if result.parameters:
        document["parameters"] = result.parameters
    document["outputs"] = outputs
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


@lru_cache(maxsize=256)  # making it takes a tenth of the time of a digit
def _text_before_bytes(
    signature: Signature, version: str, outputs: tuple[tuple[str, bool], ...], shapes: tuple[tuple[int, ...], ...]
) -> bytes:
    """The JSON of an answer without id and parameters whose outputs are all bytes: it says only their shapes."""
    headings = [
        heading | {"parameters": _size(math.prod(shape) * itemsize(heading["datatype"]))}
        for (name, _), shape in zip(outputs, shapes, strict=True)
        for heading in [_heading(signature, name, shape)]
    ]
    return orjson.dumps({"model_name": signature.name, "model_version": version, "outputs": headings})


def _heading(signature: Signature, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    (datatype,) = (output.datatype for output in signature.gives if output.name == name)
    return {"name": name, "datatype": datatype, "shape": shape}


def _size(nbytes: int) -> dict[str, int]:
    return {"binary_data_size": nbytes}
