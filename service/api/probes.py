"""The probes. They never wait for inference."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.api import openapi
from service.api.answer_schemas import Live, Ready

router = APIRouter(tags=["probes"])


def _both(model: type[BaseModel], no: str, *headers: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a probe: 200, or 503 with these headers."""
    return {
        200: {"model": model, "description": "Yes."},
        503: {"model": model, "description": no, "headers": openapi.headers(*headers)},
    }


@router.get("/livez", summary="Is the process alive?", responses=_both(Live, "It is stuck; `reason` says where."))
async def livez(request: Request) -> JSONResponse:
    """200 while the event loop runs and no run of a model is stuck. Restart the process when this fails."""
    stuck = request.state.app_state.health.stuck()
    return JSONResponse(Live(live=stuck is None, reason=stuck or "Alive.").model_dump(), 503 if stuck else 200)


@router.get(
    "/readyz",
    summary="Should requests be sent here?",
    responses=_both(Ready, "Not now; `reason` says why.", "Retry-After"),
)
async def readyz(request: Request) -> JSONResponse:
    """200 when every model is loaded, verified, warm and working. 503 when one is not, or while the service drains.

    After a run that failed, each request for this probe runs the model's self-test, and the answer is its result.
    Workers that serve different models are ready, but `reason` says that they do.
    """
    state = request.state.app_state
    reason = await state.health.unready()
    if reason is not None:
        return JSONResponse(Ready(ready=False, reason=reason).model_dump(), 503, headers={"Retry-After": "1"})
    sentences = "Models loaded, verified, warm and working.", state.metrics.agreement.sentence
    return JSONResponse(Ready(ready=True, reason=" ".join(filter(None, sentences))).model_dump())


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format, or OpenMetrics if `Accept` asks for it.",
            "content": {
                media_type: {"schema": {"type": "string"}}
                for media_type in ("text/plain", "application/openmetrics-text")
            },
        }
    },
)
async def metrics(request: Request) -> Response:
    """Every metric of all workers; docs/metrics.md lists them."""
    content, media_type = request.state.app_state.metrics.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"content-type": media_type})
