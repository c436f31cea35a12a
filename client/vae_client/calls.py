"""The verbs: what a user says becomes a `Call`. `Client` and `AsyncClient` have each of them as a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from vae_client.conversation import Answer, Call, Request, Rows
from vae_client.pictures import NPY, Batch, Pictures, batch_of, npy_body
from vae_client.results import (
    Decoded,
    Encoded,
    Floats,
    Health,
    Interpolated,
    Models,
    Reconstructed,
    Sampled,
    Scored,
    Traversed,
)
from vae_client.wire import (
    JSON,
    Latents,
    array_of,
    ask_json,
    ask_pictures,
    ask_walk,
    document_of,
    floats_of,
    images_of,
    latents_of,
    models_of,
    new_seed,
    optional,
    query_of,
    seed_of,
    seen,
    size_of,
    values_of,
)

Preprocess = Literal["auto", "resize", "digit", "none"]
Prior = Literal["normal", "aggregate"]
WalkPath = Literal["linear", "spherical"]
Progress = Callable[[int], object]

R = TypeVar("R")


def encode(
    pictures: Pictures,
    *,
    model: str | None = None,
    preprocess: Preprocess | None = None,
    sample: bool = False,
    seed: int | None = None,
    preview: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Encoded]:
    """Encode each picture to the mean and the log-variance of its posterior; with `sample`, also draw from it.

    `preview` asks for what the model saw and where digits were found. `skip_bad` leaves out pictures that cannot be
    read, here or by the service, where the call would else raise OSError or InvalidInput. `progress` is called with the
    number of further pictures that are done. `timeout` is for the whole call, in seconds; by default the client's.
    """
    seed = new_seed() if sample and seed is None else seed

    def read(answer: Answer) -> Encoded:
        values = values_of(answer, ("mu", "logvar", "z"))
        return Encoded(**values, seed=seed if sample else None)

    options = {"preprocess": preprocess, "sample": sample or None, "preview": preview or None}
    ask = partial(ask_pictures, "/encode", batch := batch_of(pictures), options, seed, JSON if preview else NPY)
    return _of_pictures(Encoded, ask, read, batch, model, skip_bad, progress, timeout)


def reconstruct(
    pictures: Pictures,
    *,
    model: str | None = None,
    preprocess: Preprocess | None = None,
    sample: bool = False,
    seed: int | None = None,
    sharpness: float | None = None,
    preview: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Reconstructed]:
    """Encode each picture and decode it again, from its mean or, with `sample`, from a draw.

    `sharpness`, 1 (the default) to 8, gives the images contrast. `mse` is that of the images without. Other options as
    of `encode`.
    """
    seed = new_seed() if sample and seed is None else seed

    def read(answer: Answer) -> Reconstructed:
        document = document_of(answer)
        return Reconstructed(
            model=document["model"],
            mu=floats_of(document["mu"]),
            logvar=floats_of(document["logvar"]),
            z=optional(document, "z"),
            seed=seed if sample else None,
            images=images_of(document["images"]),
            mse=floats_of(document["mse"]),
            **seen(document),
        )

    options = {
        "preprocess": preprocess,
        "sample": sample or None,
        "sharpness": sharpness,
        "preview": preview or None,
    }
    ask = partial(ask_pictures, "/reconstruct", batch := batch_of(pictures), options, seed, JSON)
    return _of_pictures(Reconstructed, ask, read, batch, model, skip_bad, progress, timeout)


def score(
    pictures: Pictures,
    *,
    k: int | None = None,
    seed: int | None = None,
    model: str | None = None,
    preprocess: Preprocess | None = None,
    preview: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Scored]:
    """Say how well the model explains each picture, and how typical it is; with `k`, how likely, from so many draws.

    Other options as of `encode`.
    """
    seed = new_seed() if k is not None and seed is None else seed

    def read(answer: Answer) -> Scored:
        values = values_of(answer, ("distortion", "rate", "elbo", "typicality", "log_likelihood"))
        return Scored(**values, k=k, seed=None if k is None else seed)

    options = {"preprocess": preprocess, "k": k, "preview": preview or None}
    ask = partial(ask_pictures, "/score", batch := batch_of(pictures), options, seed, JSON if preview else NPY)
    return _of_pictures(Scored, ask, read, batch, model, skip_bad, progress, timeout, cost=k or 1)


def sample(
    n: int = 16,
    *,
    label: int | str | None = None,
    prior: Prior | None = None,
    temperature: float | None = None,
    sharpness: float | None = None,
    seed: int | None = None,
    model: str | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Sampled]:
    """Draw `n` new images, of one `label` (its number or name) if the model has labels.

    `temperature` scales the noise, and `sharpness`, 1 to 8, gives the images contrast; by default the model's own.
    Raises ValueError for `n` below 1. `seed` is chosen here if it is not given, so that trying again changes nothing.
    """
    if n < 1:
        raise ValueError("At least one image has to be drawn.")
    first = new_seed() if seed is None else seed

    def ask(rows: Rows, name: str | None) -> Request:
        options = {"label": label, "prior": prior, "temperature": temperature, "sharpness": sharpness, "model": name}
        return ask_json("/sample", {"n": len(rows.indices), "seed": seed_of(first, rows.start), **options})

    def read(answer: Answer) -> Sampled:
        document = document_of(answer)
        return Sampled(
            model=document["model"],
            images=images_of(document["images"]),
            z=floats_of(document["z"]),
            seed=first,
            prior=document["prior"],
            temperature=document["temperature"],
            sharpness=document["sharpness"],
        )

    return Call(ask, read, Sampled.join, rows=n, model=model, progress=progress, timeout=timeout)


def decode(
    z: Latents,
    *,
    sharpness: float | None = None,
    model: str | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Decoded]:
    """Decode latents, float32 [N, latent_dim] or [latent_dim], to images; `sharpness` as of `reconstruct`.

    Raises ValueError for anything else.
    """
    latents = latents_of(z)

    def ask(rows: Rows, name: str | None) -> Request:
        query = query_of({"sharpness": sharpness, "model": name})
        return Request("POST", "/decode", query, NPY, npy_body(latents[list(rows.indices)]))

    def read(answer: Answer) -> Decoded:
        return Decoded(model=answer.headers["x-model"], images=array_of(answer))

    return Call(
        ask,
        read,
        Decoded.join,
        rows=len(latents),
        size=lambda _: latents[0].nbytes,
        model=model,
        progress=progress,
        timeout=timeout,
    )


def interpolate(
    pictures: Pictures | None = None,
    *,
    z: Latents | None = None,
    steps: int = 8,
    path: WalkPath | None = None,
    sharpness: float | None = None,
    preprocess: Preprocess | None = None,
    model: str | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Interpolated]:
    """Go from each picture, or each latent of `z`, to the next in `steps` images, both included.

    `sharpness` as of `reconstruct`.
    Raises ValueError unless there are two points or more, of either kind, and two steps or more.
    """
    points = _points(pictures, z)
    if len(points) < 2 or steps < 2:
        raise ValueError("At least two pictures or latents and two steps are needed.")
    options = {"steps": steps, "path": path, "sharpness": sharpness, "preprocess": preprocess}

    def read(answer: Answer) -> Interpolated:
        document = document_of(answer)
        return Interpolated(
            model=document["model"],
            images=images_of(document["images"]),
            z=floats_of(document["z"]),
            mu=optional(document, "mu"),
        )

    return Call(
        partial(ask_walk, "/interpolate", points, options),
        read,
        Interpolated.join,
        rows=len(points),
        overlap=1,
        cost=steps - 1,
        size=size_of(points),
        model=model,
        progress=progress,
        timeout=timeout,
    )


def traverse(
    picture: Pictures | None = None,
    *,
    z: Latents | None = None,
    dims: Sequence[int] | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002  # the service's word
    steps: int = 7,
    sharpness: float | None = None,
    preprocess: Preprocess | None = None,
    model: str | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Call[Traversed]:
    """Change one latent of a picture, or of `z`, at a time: each of `dims` takes `steps` values in `range`.

    By default these are the five latents that say most about an image, from -3 to 3. `sharpness` as of `reconstruct`.
    Raises ValueError unless there is
    one point and at least two steps.
    """
    points = _points(picture, z)
    if len(points) != 1 or steps < 2 or (dims is not None and not len(dims)):
        raise ValueError("One picture or latent, at least one of its latents to change, and two steps are needed.")

    def ask(rows: Rows, name: str | None) -> Request:
        chosen = None if dims is None else [dims[row] for row in rows.indices]
        options = {"dims": chosen, "range": range, "steps": steps, "sharpness": sharpness, "preprocess": preprocess}
        return ask_walk("/traverse", points, options, Rows(0, [0]), name)

    def read(answer: Answer) -> Traversed:
        document = document_of(answer)
        images, latents = images_of(document["images"]), floats_of(document["z"])
        table = (len(document["dims"]), len(document["values"]))
        return Traversed(
            model=document["model"],
            images=images.reshape(*table, *images.shape[1:]),
            z=latents.reshape(*table, -1),
            dims=document["dims"],
            values=floats_of(document["values"]),
            mu=optional(document, "mu"),
        )

    return Call(
        ask,
        read,
        Traversed.join,
        rows=1 if dims is None else len(dims),
        names=("dims",),
        cost=steps,
        model=model,
        progress=progress,
        timeout=timeout,
    )


def models(*, timeout: float | None = None) -> Call[Models]:
    """Everything that is served, with cards and metrics, and what was refused."""
    return _get("/models", models_of, timeout)


def health(*, timeout: float | None = None) -> Call[Health]:
    """Whether calls should be sent to the service now. Raises Unreachable when nobody answers."""

    def read(answer: Answer) -> Health:
        document = document_of(answer)
        return Health(document["ready"], document["reason"])

    return _get("/readyz", read, timeout, final=(200, 503))


def _of_pictures(
    kind: type[Any],
    ask: Callable[[Rows, str | None], Request],
    read: Callable[[Answer], R],
    batch: Batch,
    model: str | None,
    skip_bad: bool,
    progress: Progress | None,
    timeout: float | None,
    cost: int = 1,
) -> Call[R]:
    return Call(
        ask,
        read,
        kind.join,
        rows=len(batch),
        cost=cost,
        size=batch.size,
        model=model,
        skip_bad=skip_bad,
        progress=progress,
        timeout=timeout,
    )


def _points(pictures: Pictures | None, z: Latents | None) -> Batch | Floats:
    if z is not None and pictures is None:
        return latents_of(z)
    if pictures is not None and z is None:
        return batch_of(pictures)
    raise ValueError("Either pictures or z are needed.")


def _get(path: str, read: Callable[[Answer], R], timeout: float | None, final: tuple[int, ...] = (200,)) -> Call[R]:
    return Call(
        lambda _rows, _model: Request("GET", path),
        read,
        lambda parts, _skipped: parts[0],
        timeout=timeout,
        final=final,
    )
