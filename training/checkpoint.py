"""The state of a run: everything that changes while training, and the file that holds it.

A run can be killed at any moment. Resumed from its last checkpoint, it ends with the same weights, bit for bit, as a
run that was never interrupted. Therefore a checkpoint is written between two epochs, and it replaces the one before it
with a single rename.
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
from training.recipe import HISTORY, Recipe, differing, recorded, total_matters

CHECKPOINT: Final = "checkpoint.pt"
REPORT: Final = "metrics.json"  # beside it, of a finished run
# Values of a recipe that decide no step, so that they may change when a run is resumed.
FREE: Final = frozenset(
    {"checkpoint_every", "prior_components", "refinement_steps", "refinement_draws", "refinement_step_size"}
)
_KEYS: Final = (
    *("model", "average", "optimiser", "order", "noise"),
    *("epoch", "step", "seconds", "history", "image_shape"),
)


@dataclass(slots=True)
class State:
    """Everything that changes while training.

    `average` is the moving average of the model's weights. It is what is evaluated and exported. Where the recipe
    averages nothing, it is the model itself. The schedule has no state: it is a function of `step`.
    """

    model: VAE
    average: VAE
    optimiser: torch.optim.AdamW
    order: torch.Generator  # draws the order of the images, on the CPU
    noise: torch.Generator  # draws the latents' noise, where the model is
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # of all epochs
    # For each epoch: distortion and rate in training, then distortion and rate of the average on validation images.
    history: list[tuple[float, float, float, float]] = field(default_factory=list)


def start(recipe: Recipe, image_shape: tuple[int, ...], device: torch.device) -> State:
    """The state before the first step. Weights and generators depend on the recipe's seed alone."""
    model = networks.build(recipe, image_shape, torch.Generator().manual_seed(recipe.seed)).to(device)
    return State(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False) if recipe.averaging_decay else model,
        optimiser=_optimiser(recipe, model),
        # Separate streams: the count of numbers drawn from one never changes another.
        order=torch.Generator().manual_seed(recipe.seed + 1),
        noise=torch.Generator(device).manual_seed(recipe.seed + 2),
    )


def start_from(state: State, path: Path) -> None:
    """Replace the random first weights by the averaged weights of a finished run.

    Raises CheckpointError, in one sentence, when that run is not finished or its network is another.
    """
    weights = trained(path).model.state_dict()
    try:
        state.model.load_state_dict(weights)
        state.average.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another network than the one to be trained.") from error


def _optimiser(recipe: Recipe, model: VAE) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019). Without weight decay it is Adam. Biases and norms never decay."""
    matrices = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def save(path: Path, recipe: Recipe, state: State) -> None:
    """Write a checkpoint. At every moment `path` holds a complete one: the old or the new."""
    document = {
        "recipe": recipe.model_dump(),
        "device": state.noise.device.type,
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


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to go on with: its recipe, its state, and what the user should know about the way it goes on."""

    recipe: Recipe
    state: State
    notes: list[str]


def resume(path: Path, wanted: Recipe, device: torch.device) -> Resumed:
    """The state that `save` wrote, to go on with as `wanted` says, on any device.

    Only the total of epochs and values that decide no step may differ from the checkpoint's recipe. Where the steps
    depend on the total (one-cycle, a warm-up), only a finished run can be given another total, and its old total goes
    into the recipe's `extended_from`. On another kind of device the noise cannot go on where it stopped, so it is
    seeded again, from the seed and the epoch.

    Raises CheckpointError, in one sentence, when there is no checkpoint, it cannot be read, or it cannot go on so.
    """
    document, before = _load(path)
    recipe, notes = _extended(path, document["epoch"], before, wanted)
    state = start(recipe, tuple(document["image_shape"]), device)
    state.model.load_state_dict(document["model"])
    state.average.load_state_dict(document["average"])
    state.optimiser.load_state_dict(document["optimiser"])
    state.order.set_state(document["order"])
    if document["device"] == device.type:
        state.noise.set_state(document["noise"])
    else:
        state.noise.manual_seed((recipe.seed + 2 + (document["epoch"] << 32)) % 2**63)
        notes.append(
            f"The run began on {document['device']}. Random numbers of {device.type} are others, so the weights will "
            "not be those of a run on one device."
        )
    state.epoch, state.step, state.seconds = document["epoch"], document["step"], document["seconds"]
    state.history = document["history"]
    return Resumed(recipe, state, notes)


def _extended(path: Path, epoch: int, before: Recipe, wanted: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe to go on with, and what to say about it."""
    fixed = [name for name in differing(before, wanted) if name not in FREE | {"epochs", HISTORY}]
    if fixed:
        raise CheckpointError(
            f"{path} was trained with another value of {', '.join(fixed)}, which --resume cannot change: leave that "
            "out, or train from the start with --restart or under another --name."
        )
    wanted = wanted.model_copy(update={HISTORY: before.extended_from})
    if wanted.epochs == before.epochs:
        return wanted, []
    if wanted.epochs < epoch:
        raise CheckpointError(f"{path} has {epoch} epochs already: --epochs must be that or more.")
    if not total_matters(wanted):
        return wanted, [f"The run now has {wanted.epochs} epochs instead of {before.epochs}."]
    if epoch < before.epochs:
        raise CheckpointError(
            f"{path} is at epoch {epoch} of {before.epochs}, and its learning rate follows that total: finish it with "
            f"--resume first, or train {wanted.epochs} epochs from the start with --restart."
        )
    note = (
        f"The finished run of {before.epochs} epochs is extended to {wanted.epochs}. Learning rate and warm-up now "
        f"follow the schedule of {wanted.epochs} epochs from epoch {epoch + 1} on. The weights will not be those of "
        f"{wanted.epochs} epochs in one run."
    )
    return wanted.model_copy(update={HISTORY: [*before.extended_from, before.epochs]}), [note]


def recipe_of(path: Path) -> Recipe:
    """The recipe of a checkpoint; raises CheckpointError, in one sentence, when there is none to read."""
    return _load(path)[1]


def progress_of(path: Path) -> tuple[int, int]:
    """How many epochs of a checkpoint's run are trained, and how many there are; raises as `recipe_of` does."""
    document, recipe = _load(path)
    return document["epoch"], recipe.epochs


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the averaged `model`, on the CPU and ready to be exported, and how it was trained.

    `device` is where it was trained: "cpu" or "cuda". `curves` is the picture of its curves where there is no history:
    of a run that is known by its bundle alone.
    """

    recipe: Recipe
    model: VAE
    history: list[tuple[float, float, float, float]]
    seconds: float
    device: str = "cpu"
    curves: bytes | None = None


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
    return Trained(recipe, model.eval(), document["history"], document["seconds"], document["device"])


def sync_directory(path: Path) -> None:
    """Write a directory's entries to the disk, so that renames in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> tuple[dict[str, Any], Recipe]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        recipe = recorded(document["recipe"], "Its recipe")
        # Older checkpoints do not name their device. A CPU's generator has 5,056 bytes of state, a GPU's has 16.
        device = document.get("device", "cuda" if len(document["noise"]) == 16 else "cpu")
        return {"device": device} | {key: document[key] for key in _KEYS}, recipe
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}.") from error
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError, RecipeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that this version can read.") from error
