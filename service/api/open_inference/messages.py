"""Inference requests: JSON, JSON with bytes after it, or nothing but the bytes of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, FailFast, Field
from starlette.exceptions import HTTPException

from service.api.open_inference.models import Signature
from service.api.open_inference.tensors import Elements, Path, check_shape, from_bytes, from_json
from service.api.request_head import RequestOptions
from service.api.requests import MOST_NUMBERS, SMALL_BYTES, Body, read_form
from service.errors import Fault, InvalidInput
from service.images.codec import check_batch
from service.inference.admission import Reservation

# Parameters of a request that have a meaning in the protocol or in its extensions. Those without one here are
# tolerated, because clients send them unasked.
_RESERVED: Final = frozenset(
    {
        "binary_data_output",
        "content_type",
        "headers",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
    }
)
_RESERVED_PREFIX: Final = "triton_"

# Parameters of single tensors that ask for what is not offered; ignored, they would give another answer than asked for.
_REFUSED: Final = {
    "shared_memory_region": "Tensors in shared memory are not offered.",
    "classification": "Classification is not offered.",
}

_MOST_TENSORS: Final = 16

# Where the one input of a request is.
_INPUT: Final[Path] = ("inputs", 0)

# Up to this size what a request's JSON says is kept, for the next request with the same: at most a few megabytes.
_KNOWN_BYTES: Final = 512

# A value of an input in JSON, in the two lists that it is flattened into and in an array.
_FLATTENED_BYTES: Final = 24


class _Message(BaseModel):
    # Fields that the protocol does not have are ignored, as other servers of the protocol do.
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


_Parameters = Annotated[dict[str, Any], Field(default_factory=dict)]  # pydantic copies a default that is an object


class InputTensor(_Message):
    """An input of a request: `data`, or bytes after the JSON, whose number is in the parameters."""

    name: str
    shape: Annotated[list[int], FailFast(), Field(max_length=_MOST_TENSORS)]
    datatype: str
    parameters: _Parameters
    data: list[Any] | None = None


class OutputTensor(_Message):
    """An output that a request asks for."""

    name: str
    parameters: _Parameters


class InferenceRequest(_Message):
    """The JSON of a request."""

    id: str | None = None
    parameters: _Parameters
    inputs: list[InputTensor] = Field(min_length=1, max_length=_MOST_TENSORS)
    outputs: list[OutputTensor] | None = Field(None, max_length=_MOST_TENSORS)


@dataclass(frozen=True, slots=True)
class Said:
    """What the JSON of a request says, checked against the model.

    `outputs` are names with whether the output shall be bytes, in the order of the answer. `parameters` are those of
    the model. `timeout` is in seconds, or None. `shape` is that of the input: it has `data`, or `size` bytes follow.
    """

    outputs: tuple[tuple[str, bool], ...]
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    shape: tuple[int, ...] = ()
    data: list[Any] | None = None
    size: int = 0


def read(
    body: Body, json_length: int | None, signature: Signature, max_batch: int, reservation: Reservation
) -> tuple[Said, Elements]:
    """What a request to a model says, and the elements of its input. Lets go of the body.

    `json_length` is what Inference-Header-Content-Length says. Raises HTTPException (400) for a body that is not JSON
    or shorter than its head says, InvalidInput, LimitExceeded and Overloaded.
    """
    data, body.data = body.data, b""
    if json_length == 0:
        return _raw(data, signature, max_batch)
    rest = memoryview(b"")
    if json_length is not None:
        if json_length > len(data):
            raise HTTPException(400, f"Inference-Header-Content-Length is more than the {len(data)} bytes of the body.")
        data, rest = data[:json_length], memoryview(data)[json_length:]
        if json_length > SMALL_BYTES:
            reservation.hold_bytes(json_length)
    if len(data) <= _KNOWN_BYTES:
        said = _said_in(data, signature, max_batch)
    else:
        text = Body(data, body.options)
        del data  # the form's reader lets go of it when it is parsed
        form = read_form(text, InferenceRequest, reservation, most_values=MOST_NUMBERS)
        said = _checked(form, signature, max_batch)
        del form  # its data are the larger part of it
    return said, _elements(said, rest, signature, reservation)


def _raw(data: bytes, signature: Signature, max_batch: int) -> tuple[Said, Elements]:
    """A request that is nothing but its input: of BYTES one element, of numbers whole rows. All outputs are bytes."""
    tensor = signature.takes
    if tensor.datatype == "BYTES":
        return _said_by(signature, 1, max_batch), [data]
    rows, rest = divmod(len(data), tensor.row_bytes)
    if rest or not rows:
        sentence = f"{len(data)} bytes; {tensor.name} takes {tensor.row_bytes}, or a multiple of that."
        raise InvalidInput([Fault(_INPUT, sentence)])
    said = _said_by(signature, rows, max_batch)
    return said, from_bytes(tensor, said.shape, memoryview(data), _INPUT)


@lru_cache(maxsize=1024)
def _said_by(signature: Signature, rows: int, max_batch: int) -> Said:
    """What a request says that is nothing but so many rows. Raises InvalidInput, LimitExceeded."""
    tensor = signature.takes
    if tensor.shape[0] == -1:
        check_batch(rows, max_batch, *_INPUT)
    shape = (rows, *tensor.shape[1:])
    check_shape(tensor, tensor.datatype, shape, _INPUT)
    return Said(tuple((name, True) for name in _given(signature, {})), shape=shape)


@lru_cache(maxsize=1024)
def _said_in(text: bytes, signature: Signature, max_batch: int) -> Said:
    """What short JSON says. A client sends the same before each input of the same shape."""
    form = read_form(Body(text, RequestOptions("")), InferenceRequest, Reservation())
    return _checked(form, signature, max_batch)


def _checked(form: InferenceRequest, signature: Signature, max_batch: int) -> Said:
    """What a form says. Raises InvalidInput, LimitExceeded."""
    outputs, parameters = _outputs(form, signature), _parameters(form.parameters, signature)
    tensor, asked = signature.takes, form.inputs[0]
    if len(form.inputs) > 1 or asked.name != tensor.name:
        raise InvalidInput([Fault(("inputs",), f"{signature.name} has one input, {tensor.name}.")])
    _refuse(asked.parameters, (*_INPUT, "parameters"))
    check_shape(tensor, asked.datatype, asked.shape, _INPUT)
    if tensor.shape[0] == -1:
        check_batch(asked.shape[0], max_batch, *_INPUT, "shape")
    size = asked.parameters.get("binary_data_size")
    if (size is None) == (asked.data is None):
        raise InvalidInput([Fault(_INPUT, "An input has either data or, in its parameters, a binary_data_size.")])
    if size is not None and type(size) is not int:
        raise InvalidInput([Fault((*_INPUT, "parameters", "binary_data_size"), "Not a number of bytes.")])
    return Said(
        outputs=outputs,
        id=form.id,
        parameters=parameters,
        timeout=_timeout(form.parameters.get("timeout")),
        shape=tuple(asked.shape),
        data=asked.data,
        size=size or 0,
    )


def _elements(said: Said, rest: memoryview, signature: Signature, reservation: Reservation) -> Elements:
    """The elements of the model's one input. Raises InvalidInput, LimitExceeded, Overloaded."""
    if said.size != len(rest):
        raise InvalidInput([Fault(_INPUT, f"The JSON announces {said.size} bytes, and {len(rest)} follow it.")])
    if said.data is not None:
        if (values := math.prod(said.shape)) > SMALL_BYTES:
            reservation.hold_bytes(_FLATTENED_BYTES * values)
        return from_json(signature.takes, said.shape, said.data, _INPUT)
    if signature.takes.is_copied and len(rest) > SMALL_BYTES:
        reservation.hold_bytes(len(rest))
    return from_bytes(signature.takes, said.shape, rest, _INPUT)


def _outputs(form: InferenceRequest, signature: Signature) -> tuple[tuple[str, bool], ...]:
    """The outputs asked for, or all, and whether each shall be bytes. Raises InvalidInput."""
    default = _flag(form.parameters, "binary_data_output", ("parameters",), default=False)
    given = _given(signature, form.parameters)
    if not form.outputs:
        return tuple((name, default) for name in given)
    names, needs = [tensor.name for tensor in signature.gives], signature.kind.needs
    outputs, faults = dict[str, bool](), list[Fault]()
    for index, output in enumerate(form.outputs):
        path: Path = ("outputs", index)
        _refuse(output.parameters, (*path, "parameters"))
        if output.name not in names:
            faults.append(
                Fault(path, f"{signature.name} has no output {output.name[:80]!r}; it has {', '.join(names)}.")
            )
        elif output.name not in given:
            faults.append(Fault(path, f"{output.name} is an output only with the parameter {needs[output.name]}."))
        elif output.name in outputs:
            faults.append(Fault(path, f"The output {output.name} already exists in the request."))
        else:
            outputs[output.name] = _flag(output.parameters, "binary_data", (*path, "parameters"), default=default)
    if faults:
        raise InvalidInput(faults)
    return tuple(outputs.items())


def _given(signature: Signature, parameters: Mapping[str, Any]) -> list[str]:
    """The outputs that a model gives with these parameters."""
    needs = signature.kind.needs
    return [tensor.name for tensor in signature.gives if tensor.name not in needs or parameters.get(needs[tensor.name])]


def _parameters(sent: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """The parameters that are for the model. Raises InvalidInput for those that mean nothing."""
    own = {name: value for name, value in sent.items() if name in signature.kind.parameters}
    unknown = [
        name for name in sent if name not in own and name not in _RESERVED and not name.startswith(_RESERVED_PREFIX)
    ]
    if unknown:
        known = ", ".join(sorted({*signature.kind.parameters, "timeout"}))
        raise InvalidInput(
            [Fault(("parameters",), f"{signature.name} has no parameter {unknown[0][:80]!r}; it has {known}.")]
        )
    return own


def _timeout(sent: object) -> float | None:
    """The seconds of the parameter `timeout`, which is in microseconds; 0 is none. Raises InvalidInput."""
    if sent is None or (type(sent) is int and sent == 0):
        return None
    if type(sent) is not int or not 0 < sent < 10**15:
        raise InvalidInput([Fault(("parameters", "timeout"), "Not a number of microseconds.")])
    return sent / 1e6


def _flag(parameters: dict[str, Any], name: str, path: Path, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput([Fault((*path, name), "Neither true nor false.")])
    return value


def _refuse(parameters: dict[str, Any], path: Path) -> None:
    for name, sentence in _REFUSED.items():
        if name in parameters:
            raise InvalidInput([Fault((*path, name), sentence)])
