"""The command line of a training run: the program's options, and an option for every value of the recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from training import checkpoint, recipe
from training.errors import CheckpointError, RecipeError
from training.recipe import HISTORY, Recipe

DEFAULT_RECIPE: Final = "mnist-mlp"


class Options(BaseSettings):
    """Train a variational autoencoder, evaluate it on the test set, and export it as a bundle.

    Every value of the recipe is an option. Without the option, the value is the one in the recipe's file.
    """

    model_config = SettingsConfigDict(cli_kebab_case=True, cli_implicit_flags="toggle", cli_hide_none_type=True)

    recipe: str = Field(DEFAULT_RECIPE, description="a name under training/recipes/, or the path of a TOML file")
    data_dir: Path | None = Field(None, description="directory of the data set's files; without it they are downloaded")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where to train")
    resume: bool = Field(
        False, description="go on from the last checkpoint of a run: --name says which, where there are several"
    )
    restart: bool = Field(False, description="train a run of this name again from the start, and replace it")
    version: int | None = Field(
        None, ge=1, description="version of the bundle; without it, the next one that is not taken"
    )
    overwrite: bool = Field(False, description="replace the bundle of this --version")
    quick: bool = Field(
        False, description="measure on fewer images and draws, for a first look; no bundle and no report are written"
    )
    models_dir: Path = Field(Path("models"), description="where the bundle goes")
    runs_dir: Path = Field(Path("runs"), description="where checkpoints, reports and TensorBoard's log go")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the command line counts. A variable EPOCHS in the environment changes nothing."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line asks for.

    `base` is the recipe before the command line's changes: the file's, or with --resume the run's own. `recipe` is the
    one to be trained.
    """

    options: Options
    base: Recipe
    recipe: Recipe


def parse(arguments: Sequence[str]) -> Wanted:
    """Read the command line of a training run.

    Raises RecipeError or CheckpointError, in one sentence. Exits, as argparse does, after `--help` (status 0) and for
    an unknown option (status 2).
    """
    first = _first_look(arguments)
    base = checkpoint.recipe_of(run_to_resume(first)) if first.resume else recipe.read(first.recipe or DEFAULT_RECIPE)
    # One option for each value of the recipe, with the recipe's value as default, so that --help shows them.
    fields: dict[str, Any] = {
        name: (field.annotation, Field(getattr(base, name), description=field.description))
        for name, field in Recipe.model_fields.items()
        if name != HISTORY
    }
    command_line = create_model("CommandLine", __base__=Options, __doc__=Options.__doc__, **fields)
    try:
        options = command_line(_cli_parse_args=list(arguments), _cli_prog_name="python -m training train")
    except ValidationError as error:
        raise RecipeError(f"The command line is not valid: {recipe.sentence(error)}.") from error
    _check(options)
    changed = {name: getattr(options, name) for name in fields} | {HISTORY: base.extended_from}
    return Wanted(options, base, recipe.validated(changed, "The recipe with the command line's changes"))


def run_to_resume(first: argparse.Namespace) -> Path:
    """The checkpoint that --resume goes on from: that of --name, else of --recipe, else of the only run there is."""
    runs: Path = first.runs_dir
    if name := first.name or (Path(first.recipe).stem if first.recipe else None):
        return runs / str(name) / checkpoint.CHECKPOINT
    found = sorted(runs.glob(f"*/{checkpoint.CHECKPOINT}"))
    if not found:
        raise CheckpointError(f"There is no run to resume under {runs}; --runs-dir names another folder.")
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise CheckpointError(f"There are several runs under {runs}: say which to resume with --name, of {names}.")
    return found[0]


def _first_look(arguments: Sequence[str]) -> argparse.Namespace:
    """The few options that decide which recipe the others change."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    finder.add_argument("--name")
    finder.add_argument("--resume", action=argparse.BooleanOptionalAction, default=False)
    finder.add_argument("--runs-dir", type=Path, default=Options.model_fields["runs_dir"].default)
    return finder.parse_known_args(arguments)[0]


def _check(options: Options) -> None:
    """Raise RecipeError for options that contradict each other."""
    if options.resume and options.restart:
        raise RecipeError("--resume goes on with a run and --restart replaces it: give one of them.")
    if options.overwrite and options.version is None:
        raise RecipeError("--overwrite replaces the bundle of a --version: say which one.")
    if options.quick and options.version is not None:
        raise RecipeError("--quick writes no bundle, so there is no --version to give.")
