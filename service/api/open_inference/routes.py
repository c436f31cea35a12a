"""The routes of the protocol. The OpenAPI document of the service does not have them: the protocol has its own."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from service.api.compression import body_codings, unpack
from service.api.context import RequestContext
from service.api.open_inference import models
from service.api.open_inference.infer import TEMPLATE, VERSION_TEMPLATE, infer_default, infer_version
from service.api.open_inference.models import KINDS, ServedModel
from service.api.request_head import RequestOptions, content_length, header_map
from service.api.requests import Body, read_form, receive_body
from service.api.routes import VerbResponse
from service.api.state import AppState
from service.inference.health import DRAINING

router = APIRouter(prefix="/v2", include_in_schema=False)

EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")

# The most bytes of a question for the index, which has one field.
_INDEX_BYTES: Final = 4096


@router.get("")
@router.get("/")
async def server_metadata() -> JSONResponse:
    """Name and version of the service, and the extensions that it has."""
    return JSONResponse({"name": "vae-service", "version": version("vae-service"), "extensions": EXTENSIONS})


@router.get("/health/live")
async def live(request: Request) -> JSONResponse:
    """200 while /livez says so."""
    stuck = _state(request).health.stuck()
    if stuck is not None:
        raise HTTPException(503, stuck)
    return JSONResponse({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """200 while /readyz says so."""
    reason = await _state(request).health.unready()
    if reason is not None:
        raise HTTPException(503, reason, {"Retry-After": "1"})
    return JSONResponse({"live": True, "ready": True})


@router.get("/models/stats")
async def all_statistics(request: Request) -> JSONResponse:
    """The statistics of every model."""
    state = _state(request)
    return _statistics(state, list(models.served(state.registry)))


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}")
async def model_metadata(request: Request) -> JSONResponse:
    """What a model takes and gives."""
    return JSONResponse(models.metadata(_state(request).registry, _found(request)))


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready")
async def model_ready(request: Request) -> JSONResponse:
    """200 when the model is served, and its last run has not failed."""
    found = _found(request)
    if _state(request).health.draining:
        raise HTTPException(503, DRAINING, {"Retry-After": "1"})
    if found.model.batcher.status.failure is not None:
        raise HTTPException(503, f"The last run of {found.contract.id} failed.", {"Retry-After": "1"})
    return JSONResponse({"name": found.name, "ready": True})


@router.get("/models/{model}/config")
@router.get("/models/{model}/versions/{version}/config")
async def model_configuration(request: Request) -> JSONResponse:
    """The configuration of a model, in Triton's form."""
    return JSONResponse(models.configuration(_found(request), _state(request).settings.max_batch))


@router.get("/models/{model}/stats")
@router.get("/models/{model}/versions/{version}/stats")
async def model_statistics(request: Request) -> JSONResponse:
    """The statistics of a model: of all its versions, or of one."""
    state, found = _state(request), _found(request)
    if "version" in request.path_params:
        return _statistics(state, [found])
    return _statistics(state, models.versions(state.registry, found))


@router.post(TEMPLATE.removeprefix("/v2"))
async def infer() -> Response:
    """Have a model work, in its highest version."""
    return VerbResponse(infer_default)


@router.post(VERSION_TEMPLATE.removeprefix("/v2"))
async def infer_in_version() -> Response:
    """Have a model work, in one version."""
    return VerbResponse(infer_version)


class IndexRequest(BaseModel):
    """Which models a question for the index is about: with `ready`, those that are served only."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ready: bool = False


@router.post("/repository/index")
async def repository_index(request: Request) -> JSONResponse:
    """Every model that is served, and the bundles that were refused, with the reasons."""
    state = _state(request)
    context: RequestContext = request.state.request
    headers = header_map(request.scope["headers"])
    data = await receive_body(request.receive, context.reservation, content_length(headers), _INDEX_BYTES)
    data = unpack(data, body_codings(headers.get(b"content-encoding", b"")), _INDEX_BYTES, context.reservation)
    asked = read_form(Body(data, RequestOptions("")), IndexRequest, context.reservation) if data else IndexRequest()
    index = [
        {"name": each.name, "version": each.version, "state": "READY", "reason": ""}
        for each in models.served(state.registry)
    ]
    if not asked.ready:
        for place, reason in state.registry.refused.items():
            bundle, _, number = place.partition("/")
            names = [f"{bundle}.{kind}" for kind in KINDS] if number else [bundle]
            index += [{"name": name, "version": number, "state": "UNAVAILABLE", "reason": reason} for name in names]
    return JSONResponse(index)


@router.post("/repository/models/{model}/load")
@router.post("/repository/models/{model}/unload")
async def change_repository() -> Response:
    """Refuse: what is served follows from the folder alone."""
    sentence = (
        "Models cannot be loaded or unloaded by requests. The folder of models rules: a bundle that is put into it is "
        "served a moment later, and one that is taken out is not served any more."
    )
    raise HTTPException(403, sentence)


def _state(request: Request) -> AppState:
    state: AppState = request.state.app_state
    return state


def _found(request: Request) -> ServedModel:
    """The model that the path names. Raises Unknown."""
    names = request.path_params
    return models.find(_state(request).registry, names["model"], names.get("version"))


def _statistics(state: AppState, asked: list[ServedModel]) -> JSONResponse:
    return JSONResponse({"model_stats": state.statistics.documents([(each.name, each.version) for each in asked])})
