"""Answers to inference requests: JSON, and after it the bytes of the outputs that shall be bytes."""

from __future__ import annotations

from typing import Any, Final

import orjson

from service.api.answers import Answer
from service.api.open_inference import compression
from service.api.open_inference.messages import Asked
from service.api.open_inference.models import ServedModel
from service.api.open_inference.tensors import to_bytes
from service.api.open_inference.work import Result

JSON_LENGTH: Final = b"inference-header-content-length"

# A number in JSON, and again while the text grows: a float32 has at most 16 characters with its comma.
_NUMBER_BYTES: Final = 2 * 16


def answer_cost(result: Result, asked: Asked, *, packed: bool) -> int:
    """What the answer takes besides the outputs, in bytes."""
    cost = 0
    for name, binary in asked.outputs:
        output = result.outputs[name]
        cost += output.nbytes if binary else _NUMBER_BYTES * output.size
    return 2 * cost if packed else cost


def inference_answer(found: ServedModel, asked: Asked, result: Result, coding: str | None) -> Answer:
    """The answer, compressed by `coding` if that is one, the answer is long, and that makes it shorter."""
    datatypes = {tensor.name: tensor.datatype for tensor in found.gives}
    outputs, parts = list[dict[str, Any]](), list[memoryview]()
    for name, binary in asked.outputs:
        array = result.outputs[name]
        output: dict[str, Any] = {"name": name, "datatype": datatypes[name], "shape": array.shape}
        if binary:
            parts.append(to_bytes(array))
            output["parameters"] = {"binary_data_size": array.nbytes}
        else:
            output["data"] = array.reshape(-1)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": found.name, "model_version": found.version, "outputs": outputs}
    if asked.id is not None:
        document["id"] = asked.id
    if result.parameters:
        document["parameters"] = result.parameters
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = list[tuple[bytes, bytes]]()
    if parts:
        headers.append((JSON_LENGTH, b"%d" % len(text)))
    content = b"".join((text, *parts)) if parts else text
    if coding is not None and len(content) >= compression.LEAST_BYTES:
        packed = compression.pack(content, coding)
        if len(packed) < len(content):  # latents hardly ever are: the last bits of floats are noise
            content = packed
            headers.append((b"content-encoding", coding.encode()))
    return Answer(content, b"application/octet-stream" if parts else b"application/json", headers)
