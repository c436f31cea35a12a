"""Recipes: every number of a training run in one TOML file.

A recipe is found by the name of its file under training/recipes/ ("mnist-mlp") or by a path ("mine.toml"). The name of
the file is the name of the recipe. The run goes to runs/<name>/ and the bundle to models/<name>/<version>/. The command
line can change every value: see `training.options`.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.contract import NAME_PATTERN
from training.errors import RecipeError

RECIPES: Final = Path(__file__).parent / "recipes"
# Not a value that a recipe file or the command line can set.
HISTORY: Final = "extended_from"


class Recipe(BaseModel):
    """All values that decide the weights. Equal recipes and equal data on the same machine give equal weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=f"^{NAME_PATTERN}$", description="name of the run and of the bundle (the file's own)")

    dataset: str = Field(description="data set: mnist, fashion-mnist, or folder:PATH of pictures")
    validation_size: int = Field(
        ge=1, description="images at the end of the training part that only validate; at most a fifth of it"
    )
    augmentation: float = Field(
        0.0, ge=0, le=1, description="share of the training images that are turned, scaled and slanted at random"
    )

    network: Literal["mlp", "resmlp", "conv"] = Field(
        description="network: mlp, one hidden layer on each side; resmlp, residual; conv, residual convolutional"
    )
    hidden: int = Field(ge=1, description="width of the hidden layers; conv: channels at half size")
    blocks: int = Field(0, ge=0, description="resmlp and conv: residual blocks on each side")
    latent_dim: int = Field(ge=1, description="length of z")

    objective: Literal["squared-error", "calibrated", "bernoulli"] = Field(
        description="distortion, summed over pixels on [-1,1]: squared-error; calibrated, a Gaussian whose variance is "
        "the mean squared error; bernoulli, on pixels drawn black or white in every step"
    )
    importance_samples: int = Field(1, ge=1, description="draws of z for each image; more than 1: the tighter bound")
    beta: float = Field(1.0, ge=0, description="weight of the rate")
    kl_warmup: float = Field(0.0, ge=0, le=1, description="share of all steps in which beta rises from 0")
    free_bits: float = Field(0.0, ge=0, description="nats that each latent may carry on average at no cost")

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(ge=1, description="images in a step, over all processes together")
    learning_rate: float = Field(gt=0, description="Adam's step size; the highest one under a schedule")
    schedule: Literal["constant", "one-cycle"] = Field(description="constant, or one-cycle: a rise and a long fall")
    warmup: float = Field(0.0, ge=0, lt=1, description="one-cycle: share of all steps in which the rate rises")
    initial_factor: float = Field(1.0, ge=0, le=1, description="one-cycle: first learning rate as share of the highest")
    final_factor: float = Field(1.0, ge=0, le=1, description="one-cycle: last learning rate as share of the highest")
    weight_decay: float = Field(0.0, ge=0, description="decoupled decay of weight matrices, in units of the step size")
    gradient_limit: float = Field(0.0, ge=0, description="largest norm of a step's gradient, which is clipped; 0: none")
    averaging_decay: float = Field(ge=0, lt=1, description="decay per step of the weights' average; 0: no average")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the matrix products while training; weights, sums and evaluation are float32"
    )
    start_from: str = Field(
        "", pattern=f"^({NAME_PATTERN})?$", description="name of a finished run whose weights to start with, not random"
    )
    seed: int = Field(ge=0, lt=2**63, description="seed of initial weights, order of images, and noise")
    checkpoint_every: int = Field(ge=1, description="epochs from one checkpoint to the next")

    prior_components: int = Field(
        50, ge=1, description="Gaussians in the mixture that is fitted to the codes of each label's training images"
    )

    refinement_steps: int = Field(
        0, ge=0, le=64, description="steps in which the exported encoder refines each posterior; 0: none"
    )
    refinement_draws: int = Field(2, ge=2, multiple_of=2, le=64, description="draws of z in each of these steps; even")
    refinement_step_size: float = Field(0.3, gt=0, le=1, description="size of these steps")

    extended_from: list[int] = Field(
        default_factory=list, description="earlier totals of epochs, where --resume extended a finished run"
    )

    @model_validator(mode="after")
    def _numbers_belong_together(self) -> Self:
        if self.schedule == "constant" and (self.warmup, self.initial_factor, self.final_factor) != (0.0, 1.0, 1.0):
            raise ValueError("warmup, initial_factor and final_factor belong to the one-cycle schedule")
        if (self.network == "mlp") != (self.blocks == 0):
            raise ValueError("resmlp and conv have one block or more, mlp has none")
        if self.importance_samples > 1 and (
            self.objective == "calibrated" or (self.beta, self.kl_warmup, self.free_bits) != (1.0, 0.0, 0.0)
        ):
            raise ValueError("several importance_samples leave no rate to be weighted and no variance to be calibrated")
        return self


def read(recipe: str) -> Recipe:
    """The recipe of this name or path.

    Raises RecipeError, in one sentence, when there is no such file or it is not a recipe.
    """
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise RecipeError(
            f"There is no recipe {recipe}; known are {', '.join(known())}, or give the path of a .toml file."
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"Recipe {recipe} cannot be read: {error}.") from error
    if "version" in document:
        raise RecipeError(
            f"Recipe {recipe} has a version, which is no part of a recipe: remove the line and give --version, or "
            "none for the next free one."
        )
    if HISTORY in document:
        raise RecipeError(f"Recipe {recipe} has {HISTORY}, which only --resume sets.")
    return validated({"name": path.stem} | document, f"Recipe {recipe}")


def known() -> list[str]:
    """The names of the recipes under training/recipes/, sorted."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def recorded(document: dict[str, Any], whose: str) -> Recipe:
    """The recipe in a bundle, a checkpoint or a report. Older ones also have a `version`, which is left out.

    Raises RecipeError, in one sentence that begins with `whose`.
    """
    return validated({key: value for key, value in document.items() if key != "version"}, whose)


def validated(document: dict[str, Any], whose: str) -> Recipe:
    """The recipe with these values; raises RecipeError, in one sentence that begins with `whose`."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{whose} is not valid: {sentence(error)}.") from error


def differing(one: Recipe, other: Recipe) -> list[str]:
    """The names of the values in which two recipes differ, in the order of the fields."""
    return [name for name in Recipe.model_fields if getattr(one, name) != getattr(other, name)]


def total_matters(recipe: Recipe) -> bool:
    """Whether a step depends on the total of epochs: in a schedule or a warm-up that is a share of all steps."""
    return recipe.schedule != "constant" or recipe.kl_warmup > 0


def to_toml(recipe: Recipe) -> str:
    """The recipe as the text of a TOML file. The name is left out, because it is the name of the file."""
    values = recipe.model_dump(exclude={"name", HISTORY})
    # JSON and TOML write names, whole numbers and decimal numbers in the same way.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def sentence(error: ValidationError) -> str:
    """What is wrong with a document, in one line."""
    words = {"extra_forbidden": "unknown key", "missing": "missing"}
    problems = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        what = words.get(one["type"], one["msg"].removeprefix("Value error, "))
        problems.append(f"{where}: {what}" if where else what)
    return "; ".join(problems)
