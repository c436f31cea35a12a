"""The commands of `vae`. Each gives its exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Final

from vae_client.cli import terminal
from vae_client.cli.arguments import BAD_INPUT, FAILED, LATER, OK
from vae_client.cli.inputs import Item, latents_of, pictures_of
from vae_client.cli.outputs import STDOUT, write, write_pictures, write_table
from vae_client.cli.parquet import pyarrow
from vae_client.client import Client
from vae_client.errors import InvalidInput, NothingUsable
from vae_client.pictures import Pixels, grid, png_bytes

_NO_SERVICE: Final = "the service is not installed here; install vae-service, or use `make serve` in its repository."


class UnreadableInput(Exception):
    """A picture cannot be used, and the command needs all of them. `str(error)` names it."""


def encode(options: argparse.Namespace) -> int:
    """Latents of pictures, as a table."""
    _check_table(options.output)
    result, kept, status = _call(options, sample=options.sample, seed=options.seed)
    columns = {"file": kept, "model": [result.model] * len(kept), "mu": result.mu, "logvar": result.logvar}
    if result.z is not None:
        _say(f"{result.model}, seed {result.seed}")
        columns["z"] = result.z
    write_table(options.output, columns, "mu" if result.z is None else "z")
    return status


def reconstruct(options: argparse.Namespace) -> int:
    """Pictures, encoded and decoded again."""
    result, kept, status = _call(options, sample=options.sample, seed=options.seed, sharpness=options.sharpness)
    if result.seed is not None:
        _say(f"{result.model}, seed {result.seed}")
    _put(options, result.images, kept)
    return status


def score(options: argparse.Namespace) -> int:
    """Scores of pictures, as a table."""
    _check_table(options.output)
    result, kept, status = _call(options, k=options.k, seed=options.seed)
    names = ["distortion", "rate", "elbo", "typicality"] + ["log_likelihood"] * (options.k is not None)
    columns = {"file": kept, "model": [result.model] * len(kept), **{name: getattr(result, name) for name in names}}
    write_table(options.output, columns, names)
    return status


def sample(options: argparse.Namespace) -> int:
    """New pictures."""
    names = ("n", "label", "prior", "temperature", "sharpness", "seed", "model")
    with _client(options) as client, terminal.progress(options.n, "sample") as advance:
        result = client.sample(**{name: getattr(options, name) for name in names}, progress=advance)
    _say(f"{result.model}, prior {result.prior}, seed {result.seed}")
    _put(options, result.images)
    return OK


def decode(options: argparse.Namespace) -> int:
    """Pictures of latents."""
    z = latents_of(options.latents)
    with _client(options) as client, terminal.progress(len(z), "decode") as advance:
        result = client.decode(z, sharpness=options.sharpness, model=options.model, progress=advance)
    _put(options, result.images)
    return OK


def interpolate(options: argparse.Namespace) -> int:
    """Pictures from each point to the next, in one row for each way."""
    result = _walk(options, path=options.path, sharpness=options.sharpness)
    _put(options, result.images, columns=len(result.images))
    return OK


def traverse(options: argparse.Namespace) -> int:
    """Pictures of one point, in one row for each latent that is changed."""
    result = _walk(options, dims=options.dims, range=options.range, sharpness=options.sharpness)
    _put(options, result.images)
    return OK


def models(options: argparse.Namespace) -> int:
    """What is served: a table, or a line of JSON for each model."""
    with _client(options) as client:
        served = client.models()
    if options.json:
        lines = [json.dumps(model.document, ensure_ascii=False) for model in served.models]
        write(STDOUT, "".join(f"{line}\n" for line in lines).encode())
        return OK
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "data", "image", "latents", "priors", box=None, pad_edge=False)
    for model in served.models:
        shown = f"{model.id} (default)" if model.id == served.default else model.id
        size = " x ".join(map(str, model.image_shape))
        table.add_row(shown, model.dataset, size, str(model.latent_dim), ", ".join(model.priors))
    Console().print(table)
    for folder, reason in served.refused.items():
        _say(f"refused: {folder}: {reason}")
    return OK


def health(options: argparse.Namespace) -> int:
    """Whether the service is ready."""
    with _client(options) as client:
        found = client.health()
    print(found.reason)
    return OK if found.ready else LATER


def serve(arguments: Sequence[str]) -> int:
    """Become the service, if it is installed."""
    if _is_installed("vae-service"):
        os.execv(sys.executable, [sys.executable, "-m", "service", *arguments])  # noqa: S606  # the user's own words
    _say(_NO_SERVICE)
    return FAILED


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _client(options: argparse.Namespace) -> Client:
    # By default no limit: the service has one for each request, and a hundred thousand pictures take a while.
    return Client(options.url, timeout=options.timeout, batch_size=getattr(options, "batch_size", 256))


def _call(options: argparse.Namespace, **more: object) -> tuple[Any, list[str], int]:
    """The command's verb on pictures: the result, the names of the pictures it is about, and the exit status.

    The other pictures are named. Raises UnreadableInput when there is one and the command is strict.
    """
    items = pictures_of(options.files)
    said = {"model": options.model, "preprocess": options.preprocess, "skip_bad": not options.strict, **more}
    with _client(options) as client, terminal.progress(len(items), options.command) as advance:
        try:
            result = getattr(client, options.command)([item.picture for item in items], **said, progress=advance)
        except NothingUsable as error:
            _name_bad(items, error.skipped)
            raise
        except (InvalidInput, OSError) as error:
            _name(error, items)
            raise
    _name_bad(items, result.skipped)
    names = [item.name for index, item in enumerate(items) if index not in result.skipped]
    return result, names, BAD_INPUT if result.skipped else OK


def _walk(options: argparse.Namespace, **more: object) -> Any:
    """The command's verb along points: the result. Raises UnreadableInput when a picture cannot be used."""
    items, points = _points(options)
    with _client(options) as client:
        try:
            return getattr(client, options.command)(**points, steps=options.steps, **more)
        except (InvalidInput, OSError) as error:
            _name(error, items)
            raise


def _points(options: argparse.Namespace) -> tuple[list[Item], dict[str, Any]]:
    """The pictures of a walk, if it is along pictures, and the options of every walk."""
    said = {"model": options.model, "preprocess": options.preprocess}
    if bool(options.files) == bool(options.z):
        raise ValueError("Either files or --z are needed.")
    if options.z:
        return [], {**said, "z": latents_of(options.z)}
    items = pictures_of(options.files)
    return items, {**said, "pictures" if options.command == "interpolate" else "picture": [i.picture for i in items]}


def _name(error: InvalidInput | OSError, items: Sequence[Item]) -> None:
    """Raise UnreadableInput with the names of the pictures that the error is about, if it is about pictures alone."""
    if isinstance(error, OSError):
        if error.filename:
            raise UnreadableInput(f"{error.filename}: {error.strerror}") from error
        return
    faults = {fault.row: fault.detail for fault in error.problem.errors if fault.pointer.startswith("/images/")}
    sentences = [f"{items[row].name}: {reason}" for row, reason in faults.items() if row is not None]
    if len(sentences) == len(error.problem.errors) > 0:
        raise UnreadableInput("\nvae: ".join(sentences)) from error


def _name_bad(items: Sequence[Item], skipped: Mapping[int, str]) -> None:
    for index, reason in skipped.items():
        _say(f"{items[index].name}: {reason}")


def _put(options: argparse.Namespace, images: Pixels, names: Sequence[str] = (), columns: int | None = None) -> None:
    """Write images where the options say, and show them on a terminal."""
    on_terminal = sys.stdout.isatty()
    way: terminal.Way | None = None
    if options.show in terminal.WAYS:
        way = options.show
    elif options.show == "auto" or (options.show is None and on_terminal):
        way = terminal.way_of(os.environ)
    if options.output is not None:
        write_pictures(options.output, images, names, columns)
    elif way is None and on_terminal:
        _say("this terminal shows no pictures; write them to a file with -o.")
    elif way is None:
        write(STDOUT, png_bytes(grid(images, columns)))
    if way is not None and options.output != STDOUT:
        terminal.show(grid(images, columns), way, sys.stdout)
        sys.stdout.flush()


def _check_table(output: str) -> None:
    """Raise NoParquet before anything is asked for."""
    if output.endswith(".parquet"):
        pyarrow()


def _say(sentence: str) -> None:
    print(f"vae: {sentence}", file=sys.stderr)
