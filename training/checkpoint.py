"""The memory of a run: everything that changes while training, and the file that holds it.

A run that is killed at any moment and resumed from its last checkpoint ends with the same weights, bit for bit, as
one that was never interrupted. So a checkpoint lies between two epochs, and replaces the one before it in a single
rename.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from training import data
from training.errors import CheckpointError, DataError, RecipeError
from training.model import VAE, Architecture
from training.recipe import Recipe, validated

CHECKPOINT: Final = "checkpoint.pt"


@dataclass(slots=True)
class State:
    """Everything that changes while training.

    `average` is the moving average of the model's weights, which is what is evaluated and exported (the model itself
    where the recipe averages nothing). The schedule has no state of its own: it is a function of `step`.
    """

    model: VAE
    average: VAE
    optimiser: torch.optim.Adam
    order: torch.Generator  # draws the order of the images, on the CPU
    noise: torch.Generator  # draws the latents' noise, where the model is
    epoch: int = 0
    step: int = 0


def start(recipe: Recipe, device: torch.device) -> State:
    """The state before the first step: weights and generators follow from the recipe's seed alone."""
    model = VAE(architecture(recipe), torch.Generator().manual_seed(recipe.seed)).to(device)
    return State(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False) if recipe.averaging_decay else model,
        optimiser=torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True),
        # Streams of their own: how many numbers one of them has drawn never moves another.
        order=torch.Generator().manual_seed(recipe.seed + 1),
        noise=torch.Generator(device).manual_seed(recipe.seed + 2),
    )


def architecture(recipe: Recipe) -> Architecture:
    """The network that the recipe wants for its data set."""
    if recipe.dataset not in data.DATASETS:
        raise DataError(f"There is no data set {recipe.dataset!r}; known are: {', '.join(sorted(data.DATASETS))}.")
    return Architecture(data.DATASETS[recipe.dataset].image_shape, recipe.hidden, recipe.latent_dim)


def save(path: Path, recipe: Recipe, state: State) -> None:
    """Write a checkpoint so that at every moment `path` holds a whole one: the old or the new."""
    document = {
        "recipe": recipe.model_dump(),
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "order": state.order.get_state(),
        "noise": state.noise.get_state(),
        "epoch": state.epoch,
        "step": state.step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        torch.save(document, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def resume(path: Path, recipe: Recipe, device: torch.device) -> State:
    """The state that `save` wrote for this recipe.

    Raises CheckpointError, in one sentence, when there is no checkpoint, it cannot be read, or its recipe is another.
    """
    document, recorded = _load(path)
    differing = [name for name, value in recorded.model_dump().items() if value != getattr(recipe, name)]
    if differing:
        raise CheckpointError(
            f"{path} was made with another recipe, which differs in {', '.join(differing)}; "
            "resume with that one, or start over without --resume."
        )
    state = start(recipe, device)
    state.model.load_state_dict(document["model"])
    state.average.load_state_dict(document["average"])
    state.optimiser.load_state_dict(document["optimiser"])
    state.order.set_state(document["order"])
    state.noise.set_state(document["noise"])
    state.epoch, state.step = document["epoch"], document["step"]
    return state


def trained(path: Path) -> tuple[Recipe, VAE]:
    """The recipe of a checkpoint and the averaged model, on the CPU, ready to be evaluated and exported.

    Raises CheckpointError, in one sentence, when it is missing, cannot be read, or its training is not finished.
    """
    document, recipe = _load(path)
    if document["epoch"] < recipe.epochs:
        raise CheckpointError(
            f"{path} is at epoch {document['epoch']} of {recipe.epochs}: finish the training with --resume first."
        )
    model = VAE(architecture(recipe)).requires_grad_(False)
    model.load_state_dict(document["average"])
    return recipe, model


def sync_directory(path: Path) -> None:
    """Make renames inside a directory outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> tuple[dict[str, Any], Recipe]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        return document, validated(document["recipe"], "Its recipe")
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that this version can read.") from error
