"""The probes. They look at the process's own state and never wait behind inference."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.api.schemas import Live, Ready

router = APIRouter(tags=["probes"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Live:
    """200 as long as the event loop turns. Restart the process when this fails."""
    return Live()


@router.get("/readyz", summary="Should requests be sent here?", responses={503: {"model": Ready}})
async def readyz(request: Request) -> JSONResponse:
    """200 when every model is loaded, verified and warm; 503 with the reason when it is not, or while draining."""
    if request.state.rooms.lifecycle.draining:
        not_ready = Ready(ready=False, reason="Draining: the process has been asked to stop.")
        return JSONResponse(not_ready.model_dump(), 503, headers={"Retry-After": "1"})
    return JSONResponse(Ready(ready=True, reason="Models loaded, verified and warm.").model_dump())
