from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from training import recipe
from training.__main__ import main
from training.errors import RecipeError
from training.options import parse
from training.recipe import RECIPES, Recipe

from .conftest import Run


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_named_by_their_files(path: Path) -> None:
    assert recipe.read(path.stem).name == path.stem


def test_the_notebook_recipe_has_the_notebook_s_settings() -> None:
    notebook = recipe.read("mnist-mlp-notebook")
    assert (notebook.hidden, notebook.latent_dim) == (400, 20)
    assert (notebook.epochs, notebook.batch_size, notebook.learning_rate) == (100, 128, 1e-3)
    assert (notebook.schedule, notebook.averaging_decay) == ("constant", 0)


def test_the_command_line_overrides_any_number() -> None:
    wanted = parse(["--recipe", "mnist-mlp", "--epochs", "3", "--learning-rate=5e-4", "--quick"])
    assert wanted.options.quick
    assert wanted.recipe == recipe.read("mnist-mlp").model_copy(update={"epochs": 3, "learning_rate": 5e-4})


def test_what_the_command_line_does_not_say_is_as_the_recipe_has_it() -> None:
    assert parse(["--recipe=mnist-mlp-notebook"]).recipe == recipe.read("mnist-mlp-notebook")


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "3")
    monkeypatch.setenv("DEVICE", "cuda")
    wanted = parse([])
    assert (wanted.options.device, wanted.recipe) == ("cpu", recipe.read("mnist-mlp"))


def test_a_recipe_can_be_a_file_anywhere(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text((RECIPES / "mnist-mlp.toml").read_text().replace("latent_dim = 20", "latent_dim = 2"))
    assert parse(["--recipe", str(mine)]).recipe == recipe.read("mnist-mlp").model_copy(
        update={"name": "mine", "latent_dim": 2}
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("epoch = 3", "epoch: unknown key"),
        ("epochs = 0", "epochs: Input should be greater than or equal to 1"),
        ("epochs = 2.5", "epochs: Input should be a valid integer"),
        ("learning_rate = nan", "learning_rate: Input should be a finite number"),
        ("network = 'vit'", "network: Input should be 'mlp', 'resmlp' or 'conv'"),
        ("network = 'resmlp'", "resmlp and conv have one block or more"),
        ("importance_samples = 0", "importance_samples: Input should be greater than or equal to 1"),
        ("importance_samples = 5\nbeta = 2.0", "several importance_samples leave no rate to be weighted"),
        ("schedule = 'constant'", "belong to the one-cycle schedule"),
        ("name = '../etc'", "name: String should match pattern"),
        ("epochs = ", "cannot be read"),
        ("version = 3", "has a version, which is no part of a recipe: remove the line and give --version"),
        ("extended_from = [3]", "has extended_from, which only --resume sets"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    key = line.partition(" ")[0]
    kept = [each for each in (RECIPES / "mnist-mlp.toml").read_text().splitlines() if not each.startswith(f"{key} ")]
    bad = tmp_path / "bad.toml"
    bad.write_text("\n".join([*kept, line]))
    with pytest.raises(RecipeError, match=sentence) as raised:
        recipe.read(str(bad))
    assert "\n" not in str(raised.value).partition("(at")[0]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("epochs = 1")
    with pytest.raises(RecipeError, match="latent_dim: missing"):
        recipe.read(str(tmp_path / "bad.toml"))


def test_an_unknown_recipe_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "mnist-nothing"]) == 2
    assert capsys.readouterr().err == (
        "There is no recipe mnist-nothing; known are fashion-mlp, fashion-sharp, mnist-binarised, mnist-mlp, "
        "mnist-mlp-calibrated, mnist-mlp-notebook, mnist-resmlp, mnist-resmlp-base, mnist-sharp, or give the path of a "
        ".toml file.\n"
    )


@pytest.mark.parametrize("argument", ["--epochs=0", "--epochs=many", "--schedule=linear", "--seed=-1"])
def test_an_impossible_argument_is_refused_in_one_line(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--epoch", "3"])
    assert exited.value.code == 2
    assert "unrecognized arguments: --epoch" in capsys.readouterr().err


def test_help_tells_every_field_with_the_recipe_s_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # or lines break at hyphens
    with pytest.raises(SystemExit) as exited:
        main(["--recipe", "mnist-mlp-notebook", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert exited.value.code == 0
    for name, field in Recipe.model_fields.items():
        if name == recipe.HISTORY:
            continue
        assert f"--{name.replace('_', '-')}" in told
        assert field.description
        assert field.description in told
    assert "passes over the training images (default: 100)" in told


def test_a_recipe_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValidationError):
        recipe.read("mnist-mlp").epochs = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--resume", "--restart", "--name=x"], "--resume goes on with a run and --restart replaces it"),
        (["--overwrite"], "--overwrite replaces the bundle of a --version"),
        (["--quick", "--version=3"], "--quick writes no bundle"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    wrong: list[str], sentence: str, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    name = ["--name=mnist-mlp"] if "--resume" in wrong else []
    assert main([*wrong, *name, f"--runs-dir={finished.runs}"]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_a_recorded_recipe_of_before_had_a_version() -> None:
    wanted = recipe.read("mnist-mlp")
    assert recipe.recorded(wanted.model_dump() | {"version": 2}, "It") == wanted


@pytest.mark.parametrize("name", ["mnist-resmlp", "mnist-binarised"])
def test_a_recipe_written_out_reads_back_as_it_was(name: str, tmp_path: Path) -> None:
    wanted = recipe.read(name)
    (tmp_path / f"{name}.toml").write_text(recipe.to_toml(wanted))
    assert recipe.read(str(tmp_path / f"{name}.toml")) == wanted
