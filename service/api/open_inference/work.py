"""What the models of the protocol do: an input in, outputs and parameters of the answer out.

Each is the verb of the same name, or a part of it, on the same queues: see `inference/autoencoder.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from service.api.context import RequestContext
from service.api.open_inference.models import COUNT, MSE, SCORES, ServedModel
from service.api.open_inference.tensors import Array, Elements, Path
from service.api.requests import SMALL_BYTES, ImageForm, refusal
from service.api.schemas import ImageOptions, PictureOptions, ReconstructOptions, SampleRequest, ScoreOptions
from service.api.state import AppState
from service.api.verbs import draws, images_of
from service.contract import IMAGE, LOGVAR, MU, X_HAT, Z
from service.images.codec import check_batch
from service.images.preprocess import Images
from service.images.tone import sharpened
from service.inference.autoencoder import Autoencoder, Posterior

Schema = TypeVar("Schema", bound=BaseModel)

# Up to so many pixels sharpening takes less time than a hop to a thread and back.
_INLINE_PIXELS: Final = 2**17

# What the verbs call what is the input here. All else that they have is among the parameters.
_INPUTS: Final = frozenset({"images", "z", COUNT})


@dataclass(slots=True)
class Sent:
    """The input of a model and its parameters."""

    elements: Elements
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class Result:
    """The outputs of a model by their names, and parameters of the answer."""

    outputs: Mapping[str, Array]
    parameters: dict[str, object] = field(default_factory=dict)


async def _encoder(_: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    images = cast("Images", sent.elements)
    posterior = await _admitted(request, found, len(images)).encode(images, request)
    return Result({MU: posterior.mu, LOGVAR: posterior.logvar})


async def _decoder(_: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    z = cast("npt.NDArray[np.float32]", sent.elements)
    image, x_hat = await _admitted(request, found, len(z)).decode_means(z, request)
    return Result({IMAGE: image, X_HAT: x_hat})


async def _encode(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    options = _validated(ImageOptions, sent.parameters)
    images = await _decoded(state, request, found, sent, options)
    autoencoder = _admitted(request, found, len(images))
    return _drawn(await autoencoder.encode(images, request, sample=options.sample, seed=options.seed))


async def _reconstruct(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    options = _validated(ReconstructOptions, sent.parameters)
    images = await _decoded(state, request, found, sent, options)
    autoencoder = _admitted(request, found, len(images))
    result = await autoencoder.reconstruct(images, request, sample=options.sample, seed=options.seed)
    decoded = await _sharpened(state, request, result.images, options.sharpness)
    return _drawn(result.posterior, {IMAGE: decoded, MSE: result.mse})


async def _score(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    options = _validated(ScoreOptions, sent.parameters)
    images = await _decoded(state, request, found, sent, options)
    autoencoder = _admitted(request, found, draws(len(images), options.k, state.settings.max_batch))
    result = await autoencoder.score(images, request, k=options.k, seed=options.seed)
    outputs = {name: array for name in SCORES if (array := getattr(result, name)) is not None}
    return Result(outputs, {} if result.seed is None else {"seed": result.seed})


async def _sample(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    (n,) = cast("npt.NDArray[np.int64]", sent.elements).tolist()
    form = _validated(SampleRequest, {"n": n, **sent.parameters})
    check_batch(form.n, state.settings.max_batch, COUNT)
    autoencoder = _admitted(request, found, form.n)
    result = await autoencoder.sample(
        form.n, request, seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    sharpness = autoencoder.contract.sharpness if form.sharpness is None else form.sharpness
    images = await _sharpened(state, request, result.images, sharpness)
    used: dict[str, object] = {
        "seed": result.seed,
        "prior": result.prior,
        "temperature": result.temperature,
        "sharpness": sharpness,
    }
    return Result({IMAGE: images, Z: result.z}, used)


# What each kind of model does. It raises what its verb raises.
WORK: Final[Mapping[str, Callable[[AppState, RequestContext, ServedModel, Sent], Awaitable[Result]]]] = {
    "encoder": _encoder,
    "decoder": _decoder,
    "encode": _encode,
    "reconstruct": _reconstruct,
    "score": _score,
    "sample": _sample,
}


def _admitted(request: RequestContext, found: ServedModel, count: int) -> Autoencoder:
    """The autoencoder of a model, when there is room for `count` images. Raises Overloaded."""
    autoencoder = found.model.autoencoder
    request.was_read(autoencoder.id, count, autoencoder.cost)
    return autoencoder


def _drawn(posterior: Posterior, more: Mapping[str, Array] | None = None) -> Result:
    """The result of a verb with a posterior, and with a draw from it if one was asked for."""
    outputs = {MU: posterior.mu, LOGVAR: posterior.logvar, **(more or {})}
    if posterior.z is None:
        return Result(outputs)
    return Result({**outputs, Z: posterior.z}, {"seed": posterior.seed})


async def _sharpened(state: AppState, request: RequestContext, images: Images, sharpness: float) -> Images:
    """Images, sharpened: in a thread where there are many pixels to change."""
    if sharpness == 1 or images.size <= _INLINE_PIXELS:
        return sharpened(images, sharpness)
    return await state.run_in_thread(request, sharpened, images, sharpness)


async def _decoded(
    state: AppState, request: RequestContext, found: ServedModel, sent: Sent, options: PictureOptions
) -> Images:
    """The images of picture files, as the verbs read them."""
    files = cast("list[bytes | str]", sent.elements)
    request.reservation.check_images(len(files))
    form = ImageForm(found.model, options, files, npy=False)
    return await images_of(state, request, form, quick=sum(map(len, files)) <= SMALL_BYTES)


def _validated(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    """Parameters of a request in the form of the verb. Raises InvalidInput."""
    try:
        return schema.model_validate(values, strict=True)
    except ValidationError as error:
        raise refusal(error) from error


def place_of(path: Path) -> Path:
    """Where in a request of the protocol a fault is that a verb has found at `path`. Each input is the only one."""
    if not path:
        return path
    return ("inputs", 0, "data", *path[1:]) if path[0] in _INPUTS else ("parameters", *path)
