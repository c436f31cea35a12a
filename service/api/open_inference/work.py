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
from service.api.open_inference.models import MSE, ServedModel
from service.api.open_inference.tensors import Array, Elements
from service.api.requests import SMALL_BYTES, ImageForm, refusal
from service.api.schemas import ImageOptions, SampleRequest
from service.api.state import AppState
from service.api.verbs import images_of
from service.contract import IMAGE, LOGVAR, MU, X_HAT, Z
from service.errors import Fault, InvalidInput
from service.images.codec import check_batch
from service.images.preprocess import Images
from service.inference.autoencoder import Autoencoder

Schema = TypeVar("Schema", bound=BaseModel)

# Where in a request the fields of a verb's form are that are not among its parameters.
_PLACES: Final[Mapping[tuple[str | int, ...], tuple[str | int, ...]]] = {("n",): ("inputs", 0, "data")}


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
    images = await _decoded(state, request, found, sent)
    posterior = await _admitted(request, found, len(images)).encode(images, request)
    return Result({MU: posterior.mu, LOGVAR: posterior.logvar})


async def _reconstruct(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    images = await _decoded(state, request, found, sent)
    result = await _admitted(request, found, len(images)).reconstruct(images, request)
    posterior = result.posterior
    return Result({IMAGE: result.images, MU: posterior.mu, LOGVAR: posterior.logvar, MSE: result.mse})


async def _sample(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Result:
    (n,) = cast("npt.NDArray[np.int64]", sent.elements).tolist()
    form = _validated(SampleRequest, {"n": n, **sent.parameters})
    check_batch(form.n, state.settings.max_batch, "n")
    result = await _admitted(request, found, form.n).sample(
        form.n, request, seed=form.seed, temperature=form.temperature, prior=form.prior, label=form.label
    )
    return Result({IMAGE: result.images, Z: result.z}, {"seed": result.seed, "prior": result.prior})


# What each kind of model does. It raises what its verb raises.
WORK: Final[Mapping[str, Callable[[AppState, RequestContext, ServedModel, Sent], Awaitable[Result]]]] = {
    "encoder": _encoder,
    "decoder": _decoder,
    "encode": _encode,
    "reconstruct": _reconstruct,
    "sample": _sample,
}


def _admitted(request: RequestContext, found: ServedModel, count: int) -> Autoencoder:
    """The autoencoder of a model, when there is room for `count` images. Raises Overloaded."""
    autoencoder = found.model.autoencoder
    request.was_read(autoencoder.id, count, autoencoder.cost)
    return autoencoder


async def _decoded(state: AppState, request: RequestContext, found: ServedModel, sent: Sent) -> Images:
    """The images of picture files, as the verbs read them."""
    files = cast("list[bytes | str]", sent.elements)
    options = _validated(ImageOptions, sent.parameters)
    request.reservation.check_images(len(files))
    form = ImageForm(found.model, options, files, npy=False)
    try:
        return await images_of(state, request, form, quick=sum(map(len, files)) <= SMALL_BYTES)
    except InvalidInput as error:
        faults = [Fault(("inputs", 0, "data", *fault.path[1:]), fault.reason) for fault in error.faults]
        raise InvalidInput(faults) from error


def _validated(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    """Parameters of a request in the form of the verb. Raises InvalidInput."""
    try:
        return schema.model_validate(values, strict=True)
    except ValidationError as error:
        refused = refusal(error)
        if isinstance(refused, InvalidInput):
            faults = [
                Fault(_PLACES.get(fault.path, ("parameters", *fault.path)), fault.reason) for fault in refused.faults
            ]
            refused = InvalidInput(faults)
        raise refused from error
