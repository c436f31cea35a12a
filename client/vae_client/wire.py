"""How inputs and options are written into requests, and how values are read from answers."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vae_client.conversation import Answer, Request, Rows
from vae_client.pictures import NPY, Batch, Pixels, pixels_of
from vae_client.results import Floats, Found, ModelInfo, Models

# Latents: float32 [N, latent_dim], or [latent_dim] for one.
Latents = npt.ArrayLike

JSON: Final = "application/json"


def document_of(answer: Answer) -> Any:
    """The JSON of an answer. Raises ValueError."""
    return json.loads(answer.content)


def array_of(answer: Answer) -> npt.NDArray[Any]:
    """The array of an answer in NumPy's format. Raises ValueError."""
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("Not one array.")
    return array


def floats_of(values: Any) -> Floats:
    """Numbers of JSON as float32. Those of the service were float32, and are so again, bit for bit."""
    return np.array(values, np.float32)


def images_of(texts: Sequence[str]) -> Pixels:
    """Base64 PNGs of one size: uint8 [N, h, w] or [N, h, w, 3]. Raises ValueError and OSError."""
    return np.stack([pixels_of(base64.b64decode(text, validate=True)) for text in texts])


def seen(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `preview` and `found` of a JSON answer, where it has a preview."""
    if "preview" not in document:
        return {}
    preview = images_of(document["preview"])
    places = document.get("found") or [None] * len(preview)
    found = [place and Found(tuple(place["box"]), place["confidence"]) for place in places]
    return {"preview": preview, "found": found}


def models_of(answer: Answer) -> Models:
    """The answer to `/models`."""
    document = document_of(answer)
    models = tuple(
        ModelInfo(
            id=model["id"],
            name=model["name"],
            version=model["version"],
            dataset=model["dataset"],
            image_shape=tuple(model["image_shape"]),
            latent_dim=model["latent_dim"],
            priors=tuple(model["priors"]),
            labels=tuple(model["labels"]),
            label_names=tuple(model["label_names"]),
            metrics=model["metrics"],
            provider=model["provider"],
            card=model["card"],
            document=model,
        )
        for model in document["models"]
    )
    return Models(default=document["default"], models=models, refused=document["refused"])


def seed_of(seed: int, start: int) -> int:
    """The seed of the batch that begins with row `start`: the call's own for the first one, 0 to 2^53 - 1.

    The noise of a request depends on its seed alone, so two batches with one seed would have the same noise.
    """
    return seed if start == 0 else int(np.random.SeedSequence([seed, start]).generate_state(1, np.uint64)[0] >> 11)


def latents_of(z: Latents) -> Floats:
    """Latents as an array, float32 [N, latent_dim]. Raises ValueError for others, and if one is not finite."""
    latents = np.atleast_2d(np.asarray(z, np.float32))
    if latents.ndim != 2 or not latents.size:
        raise ValueError(f"Latents are [N, latent_dim] or [latent_dim]; these are {list(latents.shape)}.")
    if not np.isfinite(latents).all():
        raise ValueError("Latents are finite numbers.")
    return latents


def new_seed() -> int:
    """A random seed, 0 to 2^53 - 1."""
    return secrets.randbits(53)


def values_of(answer: Answer, names: Sequence[str]) -> dict[str, Any]:
    """The fields of an answer that is one array, a row for each name, or JSON. The last name may be missing."""
    if answer.headers["content-type"] == NPY:
        array = array_of(answer)
        if len(array) < len(names) - 1:
            raise ValueError(f"The array has only {len(array)} rows.")
        return {"model": answer.headers["x-model"], **dict(zip(names, array, strict=False))}
    document = document_of(answer)
    arrays = {name: floats_of(document[name]) for name in names if name in document}
    return {"model": document["model"], **arrays, **seen(document)}


def optional(document: Mapping[str, Any], name: str) -> Floats | None:
    """Numbers that a JSON answer may lack."""
    return floats_of(document[name]) if name in document else None


def query_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as a query, without those that are None."""
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def ask_json(path: str, options: Mapping[str, Any]) -> Request:
    """A request in JSON: the options that are not None."""
    content = json.dumps({name: value for name, value in options.items() if value is not None}, allow_nan=False)
    return Request("POST", path, body={"content": content.encode(), "headers": {"content-type": JSON}})


def ask_pictures(
    path: str,
    batch: Batch,
    options: Mapping[str, Any],
    seed: int | None,
    accept: str,
    rows: Rows,
    model: str | None,
) -> Request:
    """A request on some pictures of a batch, its options in the query, with a seed of these rows."""
    own_seed = None if seed is None else seed_of(seed, rows.start)
    query = query_of({**options, "seed": own_seed, "model": model})
    return Request("POST", path, query, accept, batch.body(rows.indices))


def size_of(points: Batch | Floats) -> Callable[[int], int]:
    """About how many bytes a point takes in a request."""
    # A number of float32 takes at most 24 characters in JSON.
    return (lambda _: 24 * points.shape[1]) if isinstance(points, np.ndarray) else points.size


def ask_walk(path: str, points: Batch | Floats, options: Mapping[str, Any], rows: Rows, model: str | None) -> Request:
    """A request for a walk along some of the points."""
    if isinstance(points, np.ndarray):
        return ask_json(path, {"z": points[list(rows.indices)].tolist(), **options, "model": model})
    return Request("POST", path, query_of({**options, "model": model}), body=points.body(rows.indices))
