"""Requests for a walk in latent space: its points, as images or as latents, and the walk between or from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast

from service.api.request_head import NPY
from service.api.requests import MOST_FAULTS, Body, ImageForm, Options, latents_of, options_and_pictures
from service.api.schemas import InterpolateOptions, InterpolateRequest, TraverseOptions, TraverseRequest
from service.errors import Fault, InvalidInput, LimitExceeded
from service.images import codec
from service.inference.admission import Reservation
from service.inference.autoencoder import check_latents
from service.inference.engine import Floats
from service.inference.registry import Model, Registry
from service.inference.walks import Interpolation, Traversal, Walk
from service.settings import Settings

# How many latents `/traverse` changes when it is not told which.
_DIMS: Final = 5


@dataclass(slots=True)
class Points:
    """The points of a walk: latents `z`, float32 [N, latent_dim], or else `pictures` that are not decoded yet."""

    model: Model
    count: int
    pictures: ImageForm[Any] | None = None
    z: Floats | None = None

    @property
    def name(self) -> str:
        """The field of the request that they are from."""
        return "z" if self.pictures is None else "images"


@dataclass(slots=True)
class WalkForm:
    """A request for a walk: its points, and the number of images that it makes.

    As one picture these have so many `columns`; they are sharpened by `sharpness`. `fields` are those of the answer
    that say what the walk was.
    """

    points: Points
    walk: Walk
    frames: int
    columns: int
    sharpness: float
    fields: dict[str, Any] = field(default_factory=dict)


def parse_interpolation(body: Body, registry: Registry, settings: Settings, reservation: Reservation) -> WalkForm:
    """A request to interpolate. Decodes no picture.

    Raises InvalidInput, LimitExceeded (too many images would be made), Unknown, HTTPException (400), and Overloaded.
    """
    options, points = _read(body, InterpolateOptions, InterpolateRequest, registry, settings, reservation)
    if points.count < 2:
        raise InvalidInput([Fault((points.name,), "At least two are needed.")])
    walk = Interpolation(options.steps, options.path)
    frames = _frames(walk, points, settings, reservation)
    return WalkForm(points, walk, frames, frames, options.sharpness)


def parse_traversal(body: Body, registry: Registry, settings: Settings, reservation: Reservation) -> WalkForm:
    """A request to traverse. Decodes no picture.

    Raises InvalidInput, LimitExceeded (too many images would be made), Unknown (no such model, or no figures of its
    busiest latents, and no `dims`), HTTPException (400), and Overloaded.
    """
    options, points = _read(body, TraverseOptions, TraverseRequest, registry, settings, reservation)
    if points.count != 1:
        raise InvalidInput([Fault((points.name,), "Exactly one is needed.")])
    low, high = options.range
    if low >= high:
        raise InvalidInput([Fault(("range",), "The first value is not less than the second.")])
    autoencoder = points.model.autoencoder
    dims = options.dims or autoencoder.busiest[:_DIMS]
    _check_dims(dims, autoencoder.contract.latent_dim)
    walk = Traversal(tuple(dims), low, high, options.steps)
    frames = _frames(walk, points, settings, reservation)
    return WalkForm(points, walk, frames, walk.steps, options.sharpness, {"dims": dims, "values": walk.values})


def _read(
    body: Body,
    options: type[Options],
    request: type[Options],
    registry: Registry,
    settings: Settings,
    reservation: Reservation,
) -> tuple[Options, Points]:
    npy = body.options.media_type == NPY
    said, pictures = options_and_pictures(body, options, request, settings.max_batch, reservation)
    model = registry.find(said.model)
    z = said.z if isinstance(said, InterpolateRequest | TraverseRequest) else []
    if pictures and z:
        raise InvalidInput([Fault((name,), "Images and z exclude each other.") for name in ("images", "z")])
    if not pictures and not z:
        raise InvalidInput([Fault(("images",), "Images or z are needed.")])
    if z:
        codec.check_batch(len(z), settings.max_batch, "z")
        latents = latents_of(z, model)
        check_latents(latents)
        return said, Points(model, len(z), z=latents)
    count = len(codec.parse_npy(cast("bytes", pictures[0]))) if npy else len(pictures)
    codec.check_batch(count, settings.max_batch, "images")
    return said, Points(model, count, ImageForm(model, said, pictures, npy))


def _frames(walk: Walk, points: Points, settings: Settings, reservation: Reservation) -> int:
    """The number of images that a walk makes. Raises LimitExceeded, and Overloaded when there is no room for them."""
    frames = walk.frames(points.count)
    if frames > settings.max_batch:
        raise LimitExceeded(
            f"The walk has more images than are allowed; at most {settings.max_batch} are made for one request.",
            ("steps",),
        )
    reservation.check_images(frames)
    return frames


def _check_dims(dims: list[int], latent_dim: int) -> None:
    """Raise InvalidInput, with one fault for each of `dims` that is no latent of the model or was there before."""
    faults = []
    seen: set[int] = set()
    for index, dim in enumerate(dims):
        if not 0 <= dim < latent_dim:
            faults.append(Fault(("dims", index), f"The model has latents 0 to {latent_dim - 1}."))
        elif dim in seen:
            faults.append(Fault(("dims", index), "Given more than once."))
        seen.add(dim)
    if faults:
        raise InvalidInput(faults[:MOST_FAULTS])
