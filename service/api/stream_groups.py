"""A group of a stream's items: its pictures become images, and what was computed of them lines of NDJSON.

Each image fails for itself: what is wrong with it is in its own line, as a request with this one image would say it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from starlette.exceptions import HTTPException

from service.api.answers import base64_pngs
from service.api.context import RequestContext
from service.api.error_handlers import error_answer
from service.api.request_head import MULTIPART, RequestOptions
from service.api.requests import SMALL_BYTES, Body, ImageForm, decode_images, quick_images, read_form
from service.api.schemas import LONGEST_ID, ImageOptions, ReconstructOptions, StreamLine
from service.api.stream_bodies import Item
from service.errors import Fault, InvalidInput, LimitExceeded, RuntimeFailed
from service.images.preprocess import Images
from service.images.tone import sharpened
from service.inference.admission import Reservation
from service.inference.autoencoder import Autoencoder, Posterior
from service.inference.engine import Floats
from service.inference.registry import Model
from service.settings import Settings

# What can be wrong with one image. Other errors end the stream.
_OF_ONE: Final = (InvalidInput, LimitExceeded, HTTPException)

# Seconds for which pictures are decoded before other requests have their turn; one picture may take longer.
_SLICE: Final = 0.02

# The fields of the lines, `mu` always among them, each with a value for every image: arrays [N, ...]; `image` has
# images, which become PNGs.
Columns = Mapping[str, npt.NDArray[Any]]
Compute = Callable[[Autoencoder, Images, RequestContext, Floats | None], Awaitable[Columns]]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a route does with streams: which `options` their query has, and how the columns of images are computed."""

    options: type[ImageOptions]
    compute: Compute


# What was computed of the images of a group: columns for some of them, or the problem of one.
Computed = list[Columns | orjson.Fragment]


async def _encode_rows(autoencoder: Autoencoder, images: Images, job: RequestContext, eps: Floats | None) -> Columns:
    """What a line of `/encode` says of each image, uint8 [N, *image_shape]; with noise `eps` also a draw."""
    return _latents(await autoencoder.encode(images, job, eps=eps))


async def _reconstruct_rows(
    autoencoder: Autoencoder, images: Images, job: RequestContext, eps: Floats | None
) -> Columns:
    """What a line of `/reconstruct` says of each image, uint8 [N, *image_shape]; with `eps` decoded from a draw."""
    result = await autoencoder.reconstruct(images, job, eps=eps)
    return {"image": result.images, **_latents(result.posterior), "mse": result.mse}


ENCODED: Final = Rows(ImageOptions, _encode_rows)
RECONSTRUCTED: Final = Rows(ReconstructOptions, _reconstruct_rows)


@dataclass(slots=True)
class ReadGroup:
    """A group that was read. `lines` has the beginning of the answer to each item, and its problem, if there is one.

    `images`, uint8 [N, *image_shape], are those of the items in `good`, in the same order. `waiting` has the pictures
    that are still to be decoded, the next one last, and `decoded` the images of those before.
    """

    lines: list[dict[str, Any]]
    good: list[int]
    images: Images | None = None
    waiting: list[tuple[int, bytes | str]] = field(default_factory=list)
    decoded: list[Images] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StreamForm:
    """What all items of a stream share: the request's head, its options, the model, and where problems point."""

    said: RequestOptions
    options: ImageOptions
    model: Model
    settings: Settings
    request_id: str
    route: str

    def read(self, items: list[Item], job: RequestContext) -> ReadGroup:
        """Read the items. Decode their pictures if that takes no more time than copying them, or have them wait.

        Raises Overloaded.
        """
        read, pictures = self._parse(items, job)
        if pictures:
            read.images = quick_images(ImageForm(self.model, self.options, pictures, npy=False), self.settings)
            if read.images is None:
                read.waiting = list(zip(read.good, pictures, strict=True))[::-1]
                read.good = []
        return read

    def _parse(self, items: list[Item], job: RequestContext) -> tuple[ReadGroup, list[bytes | str]]:
        """The group without its images, and the picture of each good item."""
        lines: list[dict[str, Any]] = []
        good: list[int] = []
        pictures: list[bytes | str] = []
        for index, item in enumerate(items):
            line: dict[str, Any] = {"line": item.number}
            lines.append(line)
            try:
                pictures.append(self._picture(item, line, job.reservation))
            except _OF_ONE as error:
                line["error"] = self.problem(error)[1]
            else:
                good.append(index)
        return ReadGroup(lines, good), pictures

    def decode(self, read: ReadGroup, job: RequestContext) -> None:
        """Decode pictures that wait, one by one, for about `_SLICE` seconds. Raises Overloaded for one that stays.

        Limits are those of one picture, so that the same picture always has the same answer.
        """
        end = time.perf_counter() + _SLICE
        while True:
            index, picture = read.waiting[-1]
            form = ImageForm(self.model, self.options, [picture], npy=False)
            try:
                read.decoded.append(decode_images(form, self.settings, job.reservation))
            except _OF_ONE as error:
                read.lines[index]["error"] = self.problem(error)[1]
            else:
                read.good.append(index)
                if form.found and form.found[0] is not None:
                    read.lines[index]["found"] = form.found[0]
            read.waiting.pop()
            if not read.waiting or time.perf_counter() >= end:
                break
        if read.decoded and not read.waiting:
            read.images = np.concatenate(read.decoded)

    def _picture(self, item: Item, line: dict[str, Any], reservation: Reservation) -> bytes | str:
        """The picture of an item; its `id` is added to its line. Raises one of _OF_ONE."""
        if item.name is not None:
            line["id"] = item.name
        if item.error is not None:
            raise item.error
        if self.said.media_type == MULTIPART:
            return item.data
        picture, name = plain_line(item.data) or self._read_line(item.data, reservation)
        if name is not None:
            line["id"] = name
        return picture

    def _read_line(self, data: bytes, reservation: Reservation) -> tuple[str, str | None]:
        """The picture and the `id` of a line. Raises one of _OF_ONE."""
        if len(data) > SMALL_BYTES:
            reservation.hold_bytes(len(data))  # read_form frees it, as it does with a body
        try:
            form = read_form(Body(data, self.said), StreamLine, reservation)
        except HTTPException as error:
            raise HTTPException(error.status_code, error.detail.replace("body", "line", 1)) from error
        return form.image, form.id

    async def compute(self, compute: Compute, images: Images, eps: Floats | None, job: RequestContext) -> Computed:
        """Compute all images together. If that fails, each half by itself, until only the guilty ones fail."""
        try:
            return [await compute(self.model.autoencoder, images, job, eps)]
        except (InvalidInput, RuntimeFailed) as error:
            if len(images) == 1:
                return [self.problem(error)[1]]
        half = len(images) // 2
        first, second = (None, None) if eps is None else (eps[:half], eps[half:])
        before = await self.compute(compute, images[:half], first, job)
        return before + await self.compute(compute, images[half:], second, job)

    def write(self, read: ReadGroup, computed: Computed) -> bytes:
        """The lines of the answer to a group."""
        good = [read.lines[index] for index in read.good]
        rest = iter(good)
        sharpness = self.options.sharpness if isinstance(self.options, ReconstructOptions) else 1.0
        for columns in computed:
            if isinstance(columns, orjson.Fragment):
                next(rest)["error"] = columns
                continue
            some = list(islice(rest, len(columns["mu"])))
            for name, array in columns.items():
                values = base64_pngs(sharpened(array, sharpness)) if name == "image" else array
                for line, value in zip(some, values, strict=True):
                    line[name] = value
        if self.options.preview and read.images is not None:
            for line, png in zip(good, base64_pngs(read.images), strict=True):
                line["preview"] = png
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        return b"".join([orjson.dumps(line, option=option) for line in read.lines])

    def problem(self, error: Exception) -> tuple[int, orjson.Fragment]:
        """The status and the problem of an error, as the answer to a request with this one image would have them."""
        if isinstance(error, InvalidInput):
            error = InvalidInput([Fault(_alone(fault.path), fault.reason) for fault in error.faults])
        elif isinstance(error, LimitExceeded):
            error = LimitExceeded(str(error), _alone(error.path))
        answer = error_answer(error, self.request_id, self.route)
        return answer.status, orjson.Fragment(answer.content)


def plain_line(data: bytes) -> tuple[str, str | None] | None:
    """The picture and the `id` of a line of a stream, if it is short and has no fault; else None.

    It is as StreamLine reads it, in a third of the time: that makes an object of each line.
    """
    if len(data) > SMALL_BYTES:
        return None
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(said) is not dict or type(picture := said.get("image")) is not str:
        return None
    if len(said) == 1:
        return picture, None
    name = said.get("id")
    return (picture, name) if len(said) == 2 and type(name) is str and len(name) <= LONGEST_ID else None


def _latents(posterior: Posterior) -> dict[str, Floats]:
    fields = {"mu": posterior.mu, "logvar": posterior.logvar}
    return fields if posterior.z is None else fields | {"z": posterior.z}


def _alone(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path in a line to what is at `path` in a request with several images."""
    return ("image", *path[2:]) if path[:1] == ("images",) else path
