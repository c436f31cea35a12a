"""The one table from errors to answers: RFC 9457 problems, each with the request's id and none with our insides."""

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

from service.api.answers import Answer
from service.errors import (
    ClientGone,
    DeadlineExceeded,
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
    ClientGone: 499,  # nginx's number; nobody reads it
    Overloaded: 503,
    DeadlineExceeded: 504,
    RuntimeFailed: 500,
}

# What a client is told beside the problem.
HEADERS: Final[Mapping[type[VaeError], list[tuple[bytes, bytes]]]] = {
    Unauthorized: [(b"www-authenticate", b"Bearer")],
    Overloaded: [(b"retry-after", b"1")],
}

TITLES: Final = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}

OUR_FAULT: Final = "The service failed on this request; the request is not at fault. Its log has the details."


def install(app: FastAPI) -> None:
    """Register the table for each class of error that an endpoint or the router raises."""
    app.add_exception_handler(VaeError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)


def error_answer(error: Exception, request_id: str, path: str) -> Answer:
    """What a client is told of an error, whatever it is; what it may not be told goes to the log."""
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
    if status == 500:
        known = isinstance(error, RuntimeFailed)  # says all there is to say, and may be said very often
        log.error("%s %s: %s", request_id, path, error, exc_info=None if known else error)
        detail = OUR_FAULT
    document: dict[str, object] = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if faults:
        document["errors"] = [{"pointer": _pointer(fault.path), "detail": fault.reason} for fault in faults]
    return Answer(orjson.dumps(document), b"application/problem+json", headers, status)


def error_response(error: Exception, request_id: str, path: str) -> Response:
    """`error_answer` for where Starlette is in charge."""
    answer = error_answer(error, request_id, path)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.content, answer.status, headers, answer.media_type.decode())


def _on_error(request: Request, error: Exception) -> Response:
    return error_response(error, request.state.request.request_id, request.scope["path"])


def _status(error: Exception) -> int:
    return STATUSES.get(type(error), 500) if isinstance(error, VaeError) else 500


def _pointer(path: tuple[str | int, ...]) -> str:
    """RFC 6901: "~" and "/" in names are escaped. Of a name that no field of ours could have, the start will do."""
    return "".join("/" + str(step)[:100].replace("~", "~0").replace("/", "~1") for step in path)
