"""Commands that are printed for the user to run. Each works as printed, from the directory where it was printed."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from training import recipe
from training.data import FOLDER
from training.options import Options
from training.recipe import HISTORY, Recipe

# In text that is read on other machines, such as a model card.
ANYWHERE: Final = "python -m training"


def program(path: str | Path) -> str:
    """How to call a program from here: by a relative path, where it lies below the current directory."""
    absolute = Path(path)
    below = Path.cwd()
    return str(absolute.relative_to(below)) if absolute.is_relative_to(below) else str(absolute)


def training(*arguments: str | Path) -> str:
    """A call of this package with the Python that runs now."""
    return shlex.join([program(sys.executable), "-m", "training", *map(str, arguments)])


def tensorboard(runs_dir: Path) -> str:
    """The command that shows the curves and panels of all runs."""
    return shlex.join([program(Path(sys.executable).with_name("tensorboard")), "--logdir", str(runs_dir)])


def resume(name: str, options: Options) -> str:
    """The command that goes on with a run that was started with these options."""
    arguments = ["train", "--resume", "--name", name, *_kept(options)]
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    if processes is None:
        return training(*arguments)
    # Of several machines, each has its own --nnodes and --rdzv-endpoint, which this process does not know.
    torchrun = program(Path(sys.executable).with_name("torchrun"))
    return shlex.join([torchrun, "--nproc-per-node", processes, "-m", "training", *arguments])


def export(checkpoint: Path, options: Options) -> str:
    """The command that evaluates and exports a finished run."""
    places = [
        f"--{name.replace('_', '-')}={getattr(options, name)}"
        for name in ("data_dir", "models_dir")
        if getattr(options, name) != Options.model_fields[name].default
    ]
    return training("export", checkpoint, *places)


def _kept(options: Options) -> list[str]:
    """The options that are not values of the recipe and have to be given again."""
    arguments = []
    for name in ("data_dir", "device", "version", "models_dir", "runs_dir"):
        value = getattr(options, name)
        if value != Options.model_fields[name].default:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments + [f"--{name}" for name in ("overwrite", "quick") if getattr(options, name)]


def reproduce(wanted: Recipe, device: str = "cpu", training: str = ANYWHERE) -> str:
    """The command that trains this recipe from nothing but a checkout and the data.

    It names a recipe under training/recipes/, the one of the same name or else the most similar one, and every value
    that differs from it. A run that was extended takes one command for each total of epochs.
    """
    base = _most_similar(wanted)
    place = " --data-dir DIR" if wanted.dataset.startswith(FOLDER) else ""
    place += f" --device {device}" if device != "cpu" else ""
    totals = [*wanted.extended_from, wanted.epochs]
    first = wanted.model_copy(update={"epochs": totals[0], HISTORY: []})
    changes = "".join(
        f" --{name.replace('_', '-')}={shlex.quote(str(getattr(first, name)))}"
        if getattr(first, name) == ""
        else f" --{name.replace('_', '-')} {shlex.quote(str(getattr(first, name)))}"
        for name in recipe.differing(first, base)
    )
    commands = [f"{training} train --recipe {base.name}{changes}{place}"]
    commands += [f"{training} train --resume --name {wanted.name} --epochs {total}{place}" for total in totals[1:]]
    return " && ".join(commands)


def _most_similar(wanted: Recipe) -> Recipe:
    """The recipe under training/recipes/ of the same name, or else the one with the fewest different values."""
    shipped = [recipe.read(name) for name in recipe.known()]
    return min(shipped, key=lambda each: (each.name != wanted.name, len(recipe.differing(each, wanted))))
