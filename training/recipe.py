"""Recipes: every number of a training run in one TOML file, and the command line that may change any of them.

A recipe is named by its file under training/recipes/ ("mnist-mlp") or by a path ("mine.toml"). The file's own name is
the recipe's name: its run goes to runs/<name>/ and its bundle to models/<name>/<version>/.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.contract import NAME_PATTERN
from training.errors import RecipeError

RECIPES: Final = Path(__file__).parent / "recipes"


class Recipe(BaseModel):
    """Everything that decides what is trained and how; equal recipes, on the same machine, give equal weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=f"^{NAME_PATTERN}$", description="name of the run and of the bundle (the file's own)")
    version: int = Field(ge=1, description="version of the bundle")

    dataset: str = Field(description="data set: mnist, fashion-mnist, or folder:PATH of pictures")
    validation_size: int = Field(ge=1, description="images at the end of the training part that only validate")
    augmentation: float = Field(
        0.0, ge=0, le=1, description="share of the training images that are turned, scaled, slanted a little at random"
    )

    network: Literal["mlp", "resmlp", "conv"] = Field(
        description="network: mlp, one hidden layer on each side; resmlp, residual; conv, residual convolutional"
    )
    hidden: int = Field(ge=1, description="width of the hidden layers; conv: channels at half size")
    blocks: int = Field(0, ge=0, description="resmlp and conv: residual blocks on each side")
    latent_dim: int = Field(ge=1, description="length of z")

    objective: Literal["squared-error", "calibrated", "bernoulli"] = Field(
        description="distortion, summed over pixels on [-1,1]: squared-error; calibrated, a Gaussian whose variance is "
        "the mean squared error; bernoulli, on pixels drawn black or white anew each time"
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


class Options(BaseSettings):
    """Train a variational autoencoder, evaluate it once on the test set, and export it as a bundle.

    Every number of the recipe can be changed here; what is not said is as the recipe's file has it.
    """

    model_config = SettingsConfigDict(cli_kebab_case=True, cli_implicit_flags="toggle", cli_hide_none_type=True)

    recipe: str = Field("mnist-mlp", description="a name under training/recipes/, or the path of a TOML file")
    data_dir: Path | None = Field(None, description="directory of the data set's files; without it they are downloaded")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to train")
    resume: bool = Field(False, description="go on from the run's last checkpoint")
    overwrite: bool = Field(False, description="replace a bundle of this name and version that is another")
    models_dir: Path = Field(Path("models"), description="where the bundle goes")
    runs_dir: Path = Field(Path("runs"), description="where checkpoints, metrics and TensorBoard's log go")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the command line counts, which comes first by itself; a stray EPOCHS in the environment does not."""
        return (init_settings,)


def read(recipe: str) -> Recipe:
    """The recipe of this name or path.

    Raises RecipeError, in one sentence, when there is none or it is not one.
    """
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise RecipeError(
            f"There is no recipe {recipe}; known are {known}, or give the path of a .toml file."
        ) from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"Recipe {recipe} cannot be read: {error}.") from error
    return validated({"name": path.stem} | document, f"Recipe {recipe}")


def parse(arguments: Sequence[str]) -> tuple[Options, Recipe]:
    """The program's options, and the recipe they name with the command line's changes.

    Raises RecipeError, in one sentence; exits, as argparse does, after `--help` (0) and for an unknown option (2).
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe", default=Options.model_fields["recipe"].default)
    recipe = read(finder.parse_known_args(arguments)[0].recipe)
    # An option for each of the recipe's fields, with the recipe's value as default: --help shows what would be trained.
    fields: dict[str, Any] = {
        name: (field.annotation, Field(getattr(recipe, name), description=field.description))
        for name, field in Recipe.model_fields.items()
    }
    command_line = create_model("CommandLine", __base__=Options, __doc__=Options.__doc__, **fields)
    try:
        options = command_line(_cli_parse_args=list(arguments), _cli_prog_name="python -m training")
    except ValidationError as error:
        raise RecipeError(f"The command line asks for the impossible: {_sentence(error)}.") from error
    return options, validated(
        {name: getattr(options, name) for name in fields}, "The recipe, as the command line changes it,"
    )


def command(recipe: Recipe) -> str:
    """The command line that trains this recipe, with what it changes of the file of its name.

    A recipe that has no file under training/recipes/ is named by its file's name alone.
    """
    try:
        shipped = read(recipe.name)
    except RecipeError:
        return f"python -m training --recipe {recipe.name}.toml"
    changes = [
        f" --{name.replace('_', '-')} {value}"
        for name, value in recipe.model_dump().items()
        if value != getattr(shipped, name) and name != "version"  # the version names the bundle, not the training
    ]
    return f"python -m training --recipe {recipe.name}{''.join(changes)}"


def to_toml(recipe: Recipe) -> str:
    """The recipe as the text of a TOML file that reads back as it was; its name is the file's own."""
    values = recipe.model_dump(exclude={"name"})
    # Names, whole and decimal numbers: JSON spells all of them as TOML does.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def validated(document: dict[str, Any], whose: str) -> Recipe:
    """The recipe that a document describes; raises RecipeError, in one sentence that begins with `whose`."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{whose} is not valid: {_sentence(error)}.") from error


def _sentence(error: ValidationError) -> str:
    words = {"extra_forbidden": "unknown key", "missing": "missing"}
    problems = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        what = words.get(one["type"], one["msg"].removeprefix("Value error, "))
        problems.append(f"{where}: {what}" if where else what)
    return "; ".join(problems)
