from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training import commands, options, recipe
from training.recipe import HISTORY, Recipe

from .conftest import Run

LINES: list[dict[str, Any]] = [
    {},
    {"epochs": 3, "averaging_decay": 0.0},
    {"name": "mine", "learning_rate": 5e-4, "dataset": "folder:my birds"},
    {"name": "second", "start_from": "mnist-mlp", "prior_components": 5},
]


@pytest.mark.parametrize("base", recipe.known())
@pytest.mark.parametrize("changes", LINES)
def test_the_command_that_reproduces_a_recipe_reads_back_as_that_recipe(base: str, changes: dict[str, Any]) -> None:
    wanted = Recipe.model_validate(recipe.read(base).model_dump() | changes)
    command = commands.reproduce(wanted)
    start, line = shlex.split(command)[:4], shlex.split(command)[4:]
    assert start == ["python", "-m", "training", "train"]
    assert options.parse(line).recipe == wanted
    assert ("--data-dir" in line) == wanted.dataset.startswith("folder:")


def test_it_names_only_what_differs_from_the_most_similar_recipe() -> None:
    changed = options.parse(["--epochs=3", "--version=7"]).recipe
    assert commands.reproduce(changed) == "python -m training train --recipe mnist-mlp --epochs 3"
    mine = recipe.read("mnist-resmlp").model_copy(update={"name": "mine", "start_from": ""})
    assert commands.reproduce(mine) == "python -m training train --recipe mnist-resmlp --name mine --start-from=''"


def test_a_run_that_was_extended_takes_several_commands() -> None:
    wanted = recipe.read("mnist-mlp").model_copy(update={"epochs": 9, HISTORY: [3, 6]})
    assert commands.reproduce(wanted, "cuda").split(" && ") == [
        "python -m training train --recipe mnist-mlp --epochs 3 --device cuda",
        "python -m training train --resume --name mnist-mlp --epochs 6 --device cuda",
        "python -m training train --resume --name mnist-mlp --epochs 9 --device cuda",
    ]


def test_programs_are_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands.program(tmp_path / "bin" / "python") == "bin/python"
    assert commands.program("/elsewhere/bin/python") == "/elsewhere/bin/python"


def test_a_run_under_torchrun_goes_on_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    chosen = options.parse(["--device=cuda", "--data-dir=my data", "--epochs=3"]).options
    program, *line = shlex.split(commands.resume("mnist-mlp", chosen))
    assert Path(program).name == "torchrun"
    assert line == [
        *("--nproc-per-node", "4", "-m", "training", "train", "--resume", "--name", "mnist-mlp"),
        *("--data-dir", "my data", "--device", "cuda"),
    ]


def test_tensorboard_starts_as_printed(finished: Run) -> None:
    """With --inspect, which prints what it would show, and ends."""
    printed = next(line for line in finished.output.splitlines() if line.startswith("Curves and panels: "))
    command = shlex.split(printed.removeprefix("Curves and panels: "))
    assert command[1:] == ["--logdir", str(finished.runs)]
    ended = subprocess.run(
        [*command, "--inspect"], capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ)
    )
    assert ended.returncode == 0, ended.stderr
    assert "total/validation" in ended.stdout
    assert Path(command[0]).resolve().parent == Path(sys.executable).parent.resolve()
