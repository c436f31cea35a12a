"""Inference over the protocol, as a verb: the same keys, limits, deadlines, fast path, metrics and logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from starlette.exceptions import HTTPException

from service.api.answers import Answer
from service.api.context import RequestContext
from service.api.open_inference import models
from service.api.open_inference.answers import JSON_LENGTH, answer_cost, inference_answer
from service.api.open_inference.messages import read
from service.api.open_inference.work import WORK, Sent, place_of
from service.api.request_head import RequestHead, RequestOptions, timeout, too_large
from service.api.requests import SMALL_BYTES, Body
from service.api.state import AppState
from service.api.verb import Verb
from service.errors import Fault, InvalidInput, LimitExceeded

TEMPLATE: Final = "/v2/models/{model}/infer"
VERSION_TEMPLATE: Final = "/v2/models/{model}/versions/{version}/infer"

# Names that no percent-encoding can hide in: the fast path has a path as it is sent. Others go through the router.
_PATH: Final = re.compile(r"/v2/models/(?P<model>[\w.-]+)(?:/versions/(?P<version>\w+))?/infer", re.ASCII)

# No path is longer with a name that a bundle can have.
_LONGEST_PATH: Final = 256

# Up to so many numbers in JSON, and so many bytes, an answer takes less time than a hop to a thread and back.
_INLINE_NUMBERS: Final = 4096
_INLINE_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class InferenceOptions(RequestOptions):
    """What the head of an inference request asks for.

    `model` and `version` are as the path has them. `json_length` is the number of bytes of the JSON, None if the body
    is nothing else.
    """

    model: str = ""
    version: str | None = None
    json_length: int | None = None


class InferenceVerb(Verb):
    """The verb behind both templates."""

    def __init__(self, template: str) -> None:
        super().__init__(_infer, (), (), template)

    def _finish(self, state: AppState, head: RequestHead, request: RequestContext, answer: Answer) -> Answer:
        """Also count the request in the statistics of its model."""
        super()._finish(state, head, request, answer)
        if request.model:  # it was read, so its model is one that was served
            options = cast("InferenceOptions", head.options)
            state.statistics.add(options.model, request.model.rpartition("@")[2], request)
        return answer

    def _negotiate(self, state: AppState, head: RequestHead) -> RequestOptions:
        headers = head.headers
        if head.length is not None and head.length > state.settings.max_body_bytes:
            raise too_large(state.settings.max_body_bytes)
        parts = head.path.split("/")  # "", "v2", "models", model, "infer", or model, "versions", version, "infer"
        return InferenceOptions(
            "",
            timeout=min(timeout(headers.get(b"x-request-timeout-ms")), state.settings.deadline_ms / 1e3),
            model=parts[3],
            version=parts[5] if len(parts) == 7 else None,
            json_length=_json_length(headers.get(JSON_LENGTH)),
        )


async def _infer(state: AppState, body: Body, request: RequestContext) -> Answer:
    options, settings, reservation = cast("InferenceOptions", body.options), state.settings, request.reservation
    found = models.find(state.registry, options.model, options.version)
    length = len(body.data) if options.json_length is None else options.json_length
    message = body, options.json_length, found.signature, settings.max_batch, reservation
    if max(length, len(body.data) if found.signature.takes.is_copied else 0) <= SMALL_BYTES:
        said, elements = read(*message)
    else:
        said, elements = await state.run_in_thread(request, read, *message)
    if said.timeout is not None:
        request.deadline = min(request.deadline, request.arrived + said.timeout)
        request.check()
    try:
        result = await WORK[found.signature.kind.name](state, request, found, Sent(elements, said.parameters))
    except InvalidInput as error:
        raise InvalidInput([Fault(place_of(fault.path), fault.reason) for fault in error.faults]) from error
    except LimitExceeded as error:
        raise LimitExceeded(str(error), place_of(error.path)) from error
    cost, numbers = answer_cost(result, said)
    if cost > SMALL_BYTES:
        reservation.hold_bytes(cost)
    if numbers <= _INLINE_NUMBERS and cost <= _INLINE_BYTES:
        return inference_answer(found, said, result)
    return await state.run_in_thread(request, inference_answer, found, said, result)


def _json_length(header: bytes | None) -> int | None:
    """The bytes of JSON that a body begins with. Raises HTTPException (400)."""
    if header is None:
        return None
    if not header.isdigit() or len(header) > 10:
        raise HTTPException(400, "Inference-Header-Content-Length is not a number of bytes.")
    return int(header)


infer_default = InferenceVerb(TEMPLATE)
infer_version = InferenceVerb(VERSION_TEMPLATE)


def verb_of(path: str) -> Verb | None:
    """The verb that answers a POST to this path, which is not decoded; None where that is not certain."""
    return _verb_of(path) if len(path) <= _LONGEST_PATH else None


@lru_cache(maxsize=1024)
def _verb_of(path: str) -> Verb | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    return infer_default if match["version"] is None else infer_version
