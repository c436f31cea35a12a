"""The memory of a run: everything that changes while training, and the file that holds it.

A run that is killed at any moment and resumed from its last checkpoint ends with the same weights, bit for bit, as
one that was never interrupted. So a checkpoint lies between two epochs, and replaces the one before it in a single
rename.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from training import networks
from training.errors import CheckpointError, RecipeError
from training.model import VAE
from training.recipe import Recipe, validated

CHECKPOINT: Final = "checkpoint.pt"
_KEYS: Final = (
    *("model", "average", "optimiser", "order", "noise"),
    *("epoch", "step", "seconds", "history", "image_shape"),
)


@dataclass(slots=True)
class State:
    """Everything that changes while training.

    `average` is the moving average of the model's weights, which is what is evaluated and exported (the model itself
    where the recipe averages nothing). The schedule has no state of its own: it is a function of `step`.
    """

    model: VAE
    average: VAE
    optimiser: torch.optim.AdamW
    order: torch.Generator  # draws the order of the images, on the CPU
    noise: torch.Generator  # draws the latents' noise, where the model is
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # that the epochs took
    # Of each epoch: distortion and rate met in training, distortion and rate of the average on the validation images.
    history: list[tuple[float, float, float, float]] = field(default_factory=list)


def start(recipe: Recipe, image_shape: tuple[int, ...], device: torch.device) -> State:
    """The state before the first step: weights and generators follow from the recipe's seed alone."""
    model = networks.build(recipe, image_shape, torch.Generator().manual_seed(recipe.seed)).to(device)
    return State(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False) if recipe.averaging_decay else model,
        optimiser=_optimiser(recipe, model),
        # Streams of their own: how many numbers one of them has drawn never moves another.
        order=torch.Generator().manual_seed(recipe.seed + 1),
        noise=torch.Generator(device).manual_seed(recipe.seed + 2),
    )


def start_from(state: State, path: Path) -> None:
    """Put the averaged weights of a finished run in the place of the first, random ones.

    Raises CheckpointError, in one sentence, when that run is not finished or its network is another.
    """
    weights = trained(path).model.state_dict()
    try:
        state.model.load_state_dict(weights)
        state.average.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another network than the one to be trained.") from error


def _optimiser(recipe: Recipe, model: VAE) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), which is Adam where nothing decays. Biases and norms never decay."""
    matrices = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


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
        "seconds": state.seconds,
        "history": state.history,
        "image_shape": state.model.architecture.image_shape,
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
    state = start(recipe, tuple(document["image_shape"]), device)
    state.model.load_state_dict(document["model"])
    state.average.load_state_dict(document["average"])
    state.optimiser.load_state_dict(document["optimiser"])
    state.order.set_state(document["order"])
    state.noise.set_state(document["noise"])
    state.epoch, state.step, state.seconds = document["epoch"], document["step"], document["seconds"]
    state.history = document["history"]
    return state


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the averaged `model`, on the CPU and ready to be exported, and how it came to be."""

    recipe: Recipe
    model: VAE
    history: list[tuple[float, float, float, float]]
    seconds: float


def trained(path: Path) -> Trained:
    """The finished run of a checkpoint.

    Raises CheckpointError, in one sentence, when it is missing, cannot be read, or its training is not finished.
    """
    document, recipe = _load(path)
    if document["epoch"] < recipe.epochs:
        raise CheckpointError(
            f"{path} is at epoch {document['epoch']} of {recipe.epochs}: finish the training with --resume first."
        )
    model = networks.build(recipe, tuple(document["image_shape"])).requires_grad_(False)
    model.load_state_dict(document["average"])
    return Trained(recipe, model.eval(), document["history"], document["seconds"])


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
        recipe = validated(document["recipe"], "Its recipe")
        return {key: document[key] for key in _KEYS}, recipe
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that this version can read.") from error
