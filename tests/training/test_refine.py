"""`python -m training refine`: a refined encoder for a bundle that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.paths import MODELS
from service import contract
from service.contract import Contract
from training import checkpoint, evaluate, figures, recipe, refine

from . import subset
from .conftest import Run

DATA_DIR = f"--data-dir={subset.DIRECTORY}"


def read(bundle: Path) -> Contract:
    return Contract.from_json((bundle / contract.CONTRACT_FILE).read_bytes())


def test_the_weights_of_a_bundle_are_those_of_its_run(finished: Run) -> None:
    run, found = checkpoint.trained(finished.checkpoint), refine.read(finished.bundle)
    weights = found.model.state_dict()
    assert weights.keys() == run.model.state_dict().keys()
    assert all(bool((weights[name] == weight).all()) for name, weight in run.model.state_dict().items())
    assert (found.recipe, found.device) == (run.recipe, run.device)


def test_a_bundle_is_refined_without_its_run(finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished.bundle, tmp_path / "mnist-mlp" / "1")
    wanted = ["--steps=2", "--draws=4", "--step-size=0.4", DATA_DIR, f"--models-dir={tmp_path}"]
    assert refine.main([str(finished.bundle), *wanted]) == 0
    before, after, folder = read(finished.bundle), read(tmp_path / "mnist-mlp" / "2"), tmp_path / "mnist-mlp" / "2"
    assert f"{folder} is the new bundle mnist-mlp@2" in capsys.readouterr().out
    changed = {"refinement_steps": 2, "refinement_draws": 4, "refinement_step_size": 0.4}
    assert after.recipe == before.recipe | changed
    assert after.identity == before.identity
    assert (folder / "curves.png").read_bytes() == (finished.bundle / "curves.png").read_bytes()
    assert after.metrics["weights"] == before.metrics["weights"]
    assert after.metrics["total"] < before.metrics["total"] - 1
    assert after.metrics[figures.TOTAL_UNREFINED] == before.metrics["total"]
    text = (folder / contract.CARD_FILE).read_text()
    assert "refines each posterior in 2 steps of size 0.4" in text
    assert f"**{after.metrics[figures.SPEED]:,.0f}** images a second" in text

    # Golden outputs are those of the refined model, and the figures can be measured again.
    run = refine.read(folder)
    assert run.recipe == recipe.recorded(after.recipe, "It")
    with (
        np.load(folder / contract.GOLDEN_FILE, allow_pickle=False) as golden,
        np.load(finished.bundle / contract.GOLDEN_FILE, allow_pickle=False) as plain,
    ):
        assert not np.array_equal(golden[contract.MU], plain[contract.MU])
    assert evaluate.main([str(folder), DATA_DIR]) == 0


def test_weights_that_are_not_those_of_the_identity_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(MODELS / "mnist-mlp" / "2", tmp_path / "2"))
    text = (folder / contract.CONTRACT_FILE).read_text()
    (folder / contract.CONTRACT_FILE).write_text(text.replace(read(folder).identity, "0" * 64))
    assert refine.main([str(folder), "--steps=1", DATA_DIR]) == 1
    assert capsys.readouterr().err == f"The weights in the graphs of {folder} are not those of its identity.\n"


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--steps=-1", "refinement_steps: Input should be greater than or equal to 0"),
        ("--draws=3", "refinement_draws: Input should be a multiple of 2"),
        ("--step-size=0", "refinement_step_size: Input should be greater than 0"),
    ],
)
def test_an_impossible_number_is_refused_in_one_line(
    argument: str, sentence: str, finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refine.main([str(finished.bundle), "--steps=1", argument, DATA_DIR]) == 2
    assert capsys.readouterr().err == f"The recipe with the command line's changes is not valid: {sentence}.\n"
