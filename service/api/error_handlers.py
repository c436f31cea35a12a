"""The one table from errors to answers: RFC 9457 problems with the request's id, without internal details.

On paths of the Open Inference Protocol and of OpenAI's API they have the form of these.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.api import embeddings
from service.api.answers import Answer
from service.api.open_inference import errors as open_inference
from service.errors import (
    ClientGone,
    DeadlineExceeded,
    DeviceFailed,
    Fault,
    InvalidInput,
    LimitExceeded,
    Overloaded,
    RuntimeFailed,
    Unauthorized,
    Unknown,
    VaeError,
)

log = logging.getLogger(__name__)

STATUSES: Final[Mapping[type[VaeError], int]] = {
    InvalidInput: 422,
    LimitExceeded: 413,
    Unauthorized: 401,
    Unknown: 404,
    ClientGone: 499,  # the status that nginx uses; it is counted, and no client reads it
    Overloaded: 503,
    DeadlineExceeded: 504,
    RuntimeFailed: 500,
    DeviceFailed: 503,
}

# The headers of each error's answer.
HEADERS: Final[Mapping[type[VaeError], list[tuple[bytes, bytes]]]] = {
    Unauthorized: [(b"www-authenticate", b"Bearer")],
    Overloaded: [(b"retry-after", b"1")],
    DeviceFailed: [(b"retry-after", b"1")],
}

TITLES: Final = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}

OUR_FAULT: Final = "The service failed on this request; the request is not at fault. Its log has the details."


def install(app: FastAPI) -> None:
    """Have FastAPI answer the errors of endpoints and of its router by this table."""
    app.add_exception_handler(VaeError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)


def error_answer(error: Exception, request_id: str, path: str) -> Answer:
    """The answer for any error. Details that a client must not see go to the log."""
    faults: Sequence[Fault] = ()
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, HTTPException):
        status, detail = error.status_code, error.detail
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    else:
        status, detail = _status(error), str(error)
        headers = list(HEADERS.get(type(error), ())) if isinstance(error, VaeError) else []
        if isinstance(error, InvalidInput):
            faults = error.faults
        elif isinstance(error, LimitExceeded) and error.path:
            faults = [Fault(error.path, detail)]
    known = isinstance(error, RuntimeFailed)
    if known or status == 500:
        # The sentence of an error that is known is enough, and it can come very often.
        log.error("%s %s: %s", request_id, path, error, exc_info=None if known else error)
        detail = OUR_FAULT
    pointers = [(_pointer(fault.path), fault.reason) for fault in faults]
    theirs = 400 if status == 422 else status  # other protocols do not have 422
    if open_inference.is_spoken(path):
        return Answer(open_inference.error_document(detail, pointers), b"application/json", headers, theirs)
    if embeddings.is_spoken(path):
        content = embeddings.error_document(error, status, detail, faults)
        return Answer(content, b"application/json", headers, theirs)
    document: dict[str, object] = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if pointers:
        document["errors"] = [{"pointer": pointer, "detail": reason} for pointer, reason in pointers]
    return Answer(orjson.dumps(document), b"application/problem+json", headers, status)


def error_response(error: Exception, request_id: str, path: str) -> Response:
    """`error_answer` as a response for Starlette."""
    answer = error_answer(error, request_id, path)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.content, answer.status, headers, answer.media_type.decode())


def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, VaeError):
        request.state.request.rejection = error.rejection
    if isinstance(error, HTTPException) and error.status_code == 405:
        allow = _allow((error.headers or {}).get("Allow", ""))
        if request.method == "OPTIONS":
            return Response(headers=allow)
        error = HTTPException(405, error.detail, allow)
    return error_response(error, request.state.request.request_id, request.scope["path"])


def _allow(methods: str) -> dict[str, str]:
    """The methods of a route, with those that every route has beside its own: OPTIONS, and HEAD where it has GET."""
    found = {method.strip() for method in methods.split(",")} | {"OPTIONS"}
    return {"Allow": ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))}


def _status(error: Exception) -> int:
    return STATUSES.get(type(error), 500) if isinstance(error, VaeError) else 500


def _pointer(path: tuple[str | int, ...]) -> str:
    """A JSON pointer (RFC 6901). "~" and "/" in names are escaped, and names cut off after 100 characters."""
    return "".join("/" + str(step)[:100].replace("~", "~0").replace("/", "~1") for step in path)
