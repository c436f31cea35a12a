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

from service.errors import Fault, InvalidInput, LimitExceeded, RuntimeFailed, Unknown, VaeError

log = logging.getLogger(__name__)

STATUSES: Final[Mapping[type[VaeError], int]] = {
    InvalidInput: 422,
    LimitExceeded: 413,
    Unknown: 404,
    RuntimeFailed: 500,
}

OUR_FAULT: Final = "The service failed on this request; the request is not at fault. Its log has the details."


def install(app: FastAPI) -> None:
    """Register a handler for each class of error that an endpoint or the router raises."""
    app.add_exception_handler(VaeError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def problem(
    status: int,
    detail: str,
    request_id: str,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An `application/problem+json` answer (RFC 9457)."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if faults:
        document["errors"] = [{"pointer": _pointer(fault.path), "detail": fault.reason} for fault in faults]
    return Response(orjson.dumps(document), status, media_type="application/problem+json", headers=headers)


def _on_error(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
    request_id = request.state.request_id
    if status >= 500:
        log.error("%s %s: %s", request_id, request.url.path, error, exc_info=error)
        return problem(status, OUR_FAULT, request_id)
    faults: Sequence[Fault] = ()
    if isinstance(error, InvalidInput):
        faults = error.faults
    elif isinstance(error, LimitExceeded) and error.path:
        faults = [Fault(error.path, str(error))]
    return problem(status, str(error), request_id, faults=faults)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # what it is registered for
    return problem(error.status_code, error.detail, request.state.request_id, headers=error.headers)


def _pointer(path: tuple[str | int, ...]) -> str:
    """RFC 6901: "~" and "/" in names are escaped."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
