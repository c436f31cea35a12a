"""The models that are served: their contracts and cards, and the files of their bundles."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from service.api import etags, openapi
from service.api.answer_schemas import LatentUse, ModelInfo, ModelList, ModelSummary, ShortModelList
from service.api.answers import PNG, RAW
from service.api.context import RequestContext
from service.api.openai_schemas import OpenAIModel, OpenAIModelList
from service.api.state import AppState
from service.errors import BundleRefused, Fault, InvalidInput, Unknown
from service.inference.admission import Reservation
from service.inference.autoencoder import Autoencoder
from service.inference.bundle import read_again
from service.inference.registry import Model, Registry

router = APIRouter()

_MARKDOWN: Final = "text/markdown"
_TEXT: Final = "text/plain"

# The media types of files by their suffixes. Every other file is bytes to a browser, which runs none of it.
_MEDIA_TYPES: Final = {
    ".png": PNG,
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".md": f"{_MARKDOWN}; charset=utf-8",
    ".txt": f"{_TEXT}; charset=utf-8",
    ".json": "application/json",
}

_VIEWS: Final = ("full", "short")


@router.get(
    "/models",
    tags=["models"],
    summary="What is served",
    response_model=ModelList | ShortModelList,
    responses=openapi.tagged(401, 422),
    openapi_extra=openapi.choice("view", _VIEWS, "full: all of each model. short: a few lines of each."),
)
async def list_models(request: Request) -> Response:
    """The contract and the card of every model that is served, and the bundles that were refused."""
    registry: Registry = request.state.app_state.registry
    view = request.query_params.get("view", _VIEWS[0])
    if view not in _VIEWS:
        raise InvalidInput([Fault(("view",), f"Neither {' nor '.join(_VIEWS)}.")])
    try:
        default = registry.default.engine.contract.id
    except BundleRefused:
        default = None
    if view == "short":
        short = ShortModelList(default=default, models=[_summary(model) for model in registry])
        return etags.json_response(request.headers, short.model_dump_json())
    full = ModelList(default=default, models=[_info(model) for model in registry], refused=registry.refused)
    return etags.json_response(request.headers, full.model_dump_json())


@router.get(
    "/models/{name}",
    tags=["models"],
    summary="One model",
    response_model=ModelInfo,
    responses=openapi.tagged(401, 404),
)
async def get_model(request: Request, name: str) -> Response:
    """The contract and the card of one model: `name`, in its highest version, or `name@version`."""
    model: Model = request.state.app_state.registry.find(name)
    return etags.json_response(request.headers, _info(model).model_dump_json())


@router.get(
    "/v1/models",
    tags=["openai"],
    summary="What is served, as OpenAI's API lists it",
    responses=openapi.openai_errors(401),
)
async def list_openai_models(request: Request) -> OpenAIModelList:
    """The names of the models that `/v1/embeddings` takes."""
    registry: Registry = request.state.app_state.registry
    return OpenAIModelList(data=[OpenAIModel(id=model.engine.contract.id) for model in registry])


@router.get(
    "/v1/models/{name}",
    tags=["openai"],
    summary="One model, as OpenAI's API has it",
    responses=openapi.openai_errors(401, 404),
)
async def get_openai_model(request: Request, name: str) -> OpenAIModel:
    """One model: `name`, in its highest version, or `name@version`."""
    model: Model = request.state.app_state.registry.find(name)
    return OpenAIModel(id=model.engine.contract.id)


@router.get(
    "/models/{name}/files/{file}",
    tags=["models"],
    summary="A file of a model",
    response_class=Response,
    responses=openapi.file_answers(RAW, PNG, _MARKDOWN),
)
async def get_model_file(request: Request, name: str, file: str) -> Response:
    """A file of a model's bundle, as `files` in its contract names it: its card, the card's pictures, its graphs.

    It is the file that the model was opened with, by its SHA-256, which is also its entity tag.
    """
    state: AppState = request.state.app_state
    model = state.registry.find(name)
    contract = model.engine.contract
    digest = contract.files.get(file)
    if digest is None:
        raise Unknown(f"{contract.id} has no file {file[:80]!r}.")
    headers = etags.headers_of(f'"{digest}"') | {"x-content-type-options": "nosniff"}
    if (known := etags.held(request.headers, headers["etag"])) is not None:
        return Response(status_code=304, headers=headers | {"etag": known})
    context: RequestContext = request.state.request
    context.reservation = reservation = Reservation(state.admission)
    context.deadline = context.arrived + state.settings.deadline_ms / 1e3
    try:
        content = await state.run_in_thread(context, read_again, model.folder, contract, file, reservation.hold_bytes)
    except BaseException:
        reservation.release()
        raise
    media_type = _MEDIA_TYPES.get(PurePath(file).suffix.lower(), RAW)
    return _Held(content, headers | {"content-type": media_type}, reservation)


class _Held(Response):
    """A response whose bytes stay reserved until they are handed to the connection, which counts what it holds."""

    def __init__(self, content: bytes, headers: dict[str, str], reservation: Reservation) -> None:
        super().__init__(content, headers=headers)
        self._reservation = reservation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reservation.release()


# Fields of the contract that `/models` does not show as they are.
_OWN_FORM: Final = ("image_shape", "label_names")


def _info(model: Model) -> ModelInfo:
    contract = model.engine.contract
    return ModelInfo(
        **{field: getattr(contract, field) for field in contract.__slots__ if field not in _OWN_FORM},
        id=contract.id,
        image_shape=list(contract.image_shape),
        priors=model.autoencoder.priors,
        labels=model.autoencoder.labels,
        label_names=model.autoencoder.label_names,
        latents=_latents(model.autoencoder),
        provider=model.engine.provider,
        card=model.engine.card,
    )


def _summary(model: Model) -> ModelSummary:
    contract = model.engine.contract
    return ModelSummary(
        id=contract.id,
        name=contract.name,
        version=contract.version,
        dataset=contract.dataset,
        image_shape=list(contract.image_shape),
        latent_dim=contract.latent_dim,
    )


def _latents(autoencoder: Autoencoder) -> list[LatentUse]:
    statistics = autoencoder.statistics
    if statistics is None:
        return []
    return [
        LatentUse(
            index=index,
            rate=float(statistics.rate[index]),
            mu_mean=float(statistics.mu_mean[index]),
            mu_std=float(statistics.mu_std[index]),
        )
        for index in autoencoder.busiest
    ]
