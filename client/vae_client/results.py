"""What the verbs give: arrays, and what is needed to ask for them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from vae_client.errors import NothingUsable
from vae_client.pictures import Pixels

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """Where in a picture a digit is: `box` is left, top, right, bottom, in pixels; `confidence` is between 0 and 1."""

    box: tuple[int, int, int, int]
    confidence: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The result of a verb. `model` is the one that answered, name@version.

    Fields of several batches are joined along their first axis, if they are named in `BY_ROW`.
    """

    BY_ROW: ClassVar[tuple[str, ...]] = ()

    model: str

    @classmethod
    def join(cls, parts: Sequence[Self], skipped: Mapping[int, str]) -> Self:
        """The result of all rows, of parts in order. Raises NothingUsable when there is none."""
        if not parts:
            raise NothingUsable(skipped)
        return replace(parts[0], **{name: _joined([getattr(part, name) for part in parts]) for name in cls.BY_ROW})


@dataclass(frozen=True, eq=False, kw_only=True)
class OfPictures(Result):
    """The result of a verb on pictures.

    With `preview`, `preview` is what the model saw, uint8 [N, *image_shape], and `found` says of each picture where a
    digit was found (None: none was found, or none was looked for). `skipped` has what `skip_bad` left out: the index of
    each such picture, and why. The rows of all arrays are those of the other pictures, in order.
    """

    preview: Pixels | None = None
    found: Sequence[Found | None] | None = None
    skipped: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Sequence[Self], skipped: Mapping[int, str]) -> Self:
        """The result of all rows that were not skipped. Raises NothingUsable when there is none."""
        return replace(super().join(parts, skipped), skipped=dict(skipped))


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoded(OfPictures):
    """Posteriors q(z|x) = N(mu, exp(logvar)): float32 [N, latent_dim].

    With `sample`, `z` is a draw from each, float32 [N, latent_dim], and `seed` makes it again.
    """

    BY_ROW: ClassVar[tuple[str, ...]] = ("mu", "logvar", "z", "preview", "found")

    mu: Floats
    logvar: Floats
    z: Floats | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Reconstructed(Encoded):
    """Posteriors, and the images decoded from them: uint8 [N, *image_shape].

    `mse` is the mean squared difference of each to its input, over pixels in [0, 1]: float32 [N].
    """

    BY_ROW: ClassVar[tuple[str, ...]] = (*Encoded.BY_ROW, "images", "mse")

    images: Pixels
    mse: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored(OfPictures):
    """How well the model explains each picture: float32 [N] each; `rate` in nats, `elbo` = -(`distortion` + `rate`).

    `typicality` is the share of the model's test images that are less likely, 0 to 1. With `k`, `log_likelihood` is the
    importance-weighted estimate of log p(x) from `k` draws, which `seed` makes again.
    """

    BY_ROW: ClassVar[tuple[str, ...]] = (
        "distortion",
        "rate",
        "elbo",
        "typicality",
        "log_likelihood",
        "preview",
        "found",
    )

    distortion: Floats
    rate: Floats
    elbo: Floats
    typicality: Floats
    log_likelihood: Floats | None = None
    k: int | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded(Result):
    """One image for each latent: uint8 [N, *image_shape]."""

    BY_ROW: ClassVar[tuple[str, ...]] = ("images",)

    images: Pixels


@dataclass(frozen=True, eq=False, kw_only=True)
class Sampled(Decoded):
    """New images, uint8 [n, *image_shape], their latents, float32 [n, latent_dim], and what makes them again."""

    BY_ROW: ClassVar[tuple[str, ...]] = ("images", "z")

    z: Floats
    seed: int
    prior: str
    temperature: float
    sharpness: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Interpolated(Decoded):
    """The images from point to point, uint8 [F, *image_shape], and their latents, float32 [F, latent_dim].

    F = (N - 1) (steps - 1) + 1 for N points. `mu` has the latents of the points if these were pictures: float32
    [N, latent_dim].
    """

    BY_ROW: ClassVar[tuple[str, ...]] = ("images", "z", "mu")

    z: Floats
    mu: Floats | None = None

    @classmethod
    def join(cls, parts: Sequence[Self], skipped: Mapping[int, str]) -> Self:
        """The whole walk. The first image of each later part is the last one of the part before."""
        later = [
            replace(part, images=part.images[1:], z=part.z[1:], mu=None if part.mu is None else part.mu[1:])
            for part in parts[1:]
        ]
        return super().join([*parts[:1], *later], skipped)


@dataclass(frozen=True, eq=False, kw_only=True)
class Traversed(Decoded):
    """A row of images for each latent of `dims`, and in it one for each of `values`, float32 [S].

    `images` is uint8 [D, S, *image_shape], `z` float32 [D, S, latent_dim]. `mu` is the latent of the point if that
    was a picture: float32 [1, latent_dim].
    """

    BY_ROW: ClassVar[tuple[str, ...]] = ("images", "z", "dims")

    z: Floats
    dims: Sequence[int]
    values: Floats
    mu: Floats | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelInfo:
    """A model that is served. `document` has everything that `/models` says of it."""

    id: str
    name: str
    version: int
    dataset: str
    image_shape: tuple[int, ...]
    latent_dim: int
    priors: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    metrics: Mapping[str, float]
    provider: str
    card: str
    document: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Models:
    """What is served. `default` is the model of calls that name none; `refused` has the bundles that are not served."""

    default: str | None
    models: tuple[ModelInfo, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether calls should be sent to the service, and why, or why not, in one sentence."""

    ready: bool
    reason: str


def _joined(values: list[Any]) -> Any:
    if len(values) == 1 or values[0] is None:
        return values[0]
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return [item for value in values for item in value]
