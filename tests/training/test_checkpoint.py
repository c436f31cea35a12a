from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.contract import Contract
from training import card_text, checkpoint, data, run, train
from training.__main__ import main
from training.errors import CheckpointError
from training.recipe import RECIPES, Recipe

from . import subset
from .conftest import Program, Run
from .test_train import CPU, SHAPE, equal, weights_after


@pytest.mark.parametrize("moment", ["save", "write"])
def test_a_run_killed_and_resumed_ends_bit_identical(
    moment: str, small: Recipe, program: Program, tmp_path: Path, images: Tensor
) -> None:
    """Killed right after the second checkpoint, and in the middle of writing the third."""
    at = {"save": 2, "write": 3}[moment]
    killed = program(
        *subset.SMALL_ARGUMENTS,
        f"--data-dir={subset.DIRECTORY}",
        f"--runs-dir={tmp_path}",
        VAE_TEST_KILL_AT=f"{moment}:{at}",
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    training, validation = data.split(images, small.validation_size)
    state = checkpoint.resume(tmp_path / small.name / checkpoint.CHECKPOINT, small, CPU).state
    assert (state.epoch, len(state.history)) == (2, 2)
    train.fit(small, state, training, validation, tmp_path / "resumed")
    assert equal(state, weights_after(small, training, tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"x" * 1000])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, small: Recipe, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint that this version can read"):
        checkpoint.resume(path, small, CPU)


def test_a_checkpoint_may_not_carry_code(tmp_path: Path, small: Recipe) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"recipe": Path("anything but plain data")}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.resume(path, small, CPU)


def test_an_unfinished_run_is_not_exported(tmp_path: Path, small: Recipe) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, small, checkpoint.start(small, SHAPE, CPU))
    with pytest.raises(CheckpointError, match="is at epoch 0 of 4: finish the training with --resume first"):
        checkpoint.trained(path)


class TestStartFrom:
    """Beginning with the weights of another run."""

    @pytest.fixture(autouse=True)
    def _without_export(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "_export", lambda *_: None)

    def arguments(self, finished: Run, tmp_path: Path) -> list[str]:
        mine = tmp_path / "second.toml"
        mine.write_text((RECIPES / "mnist-mlp.toml").read_text())
        shutil.copytree(finished.folder, tmp_path / "runs" / "mnist-mlp")
        places = [f"--data-dir={subset.DIRECTORY}", f"--runs-dir={tmp_path / 'runs'}", f"--models-dir={tmp_path}"]
        return [f"--recipe={mine}", *subset.SMALL_ARGUMENTS, "--start-from=mnist-mlp", "--epochs=1", *places]

    def test_the_run_goes_on_where_the_other_ended(self, finished: Run, tmp_path: Path) -> None:
        assert main(self.arguments(finished, tmp_path)) == 0
        first, second = (
            checkpoint.trained(tmp_path / "runs" / name / checkpoint.CHECKPOINT).history
            for name in ("mnist-mlp", "second")
        )
        assert sum(second[0][2:]) < sum(first[-1][2:]) < sum(first[0][2:])
        recipe = checkpoint.recipe_of(tmp_path / "runs" / "second" / checkpoint.CHECKPOINT)
        bundle = Contract.from_json((finished.bundle / "model.json").read_bytes())
        card = card_text.training(bundle, recipe, has_curves=True)
        assert "From the weights of the run `mnist-mlp`: 1 epochs" in card

    def test_another_network_s_weights_are_refused(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.arguments(finished, tmp_path), "--hidden=47"]) == 1
        assert "is of another network than the one to be trained" in capsys.readouterr().err

    def test_a_run_that_is_not_there_is_named(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.arguments(finished, tmp_path), "--start-from=nobody"]) == 1
        assert capsys.readouterr().err == f"There is no checkpoint {tmp_path / 'runs' / 'nobody' / 'checkpoint.pt'}.\n"


def test_nothing_but_the_checkpoint_is_left_of_writing_it(tmp_path: Path, small: Recipe) -> None:
    checkpoint.save(tmp_path / "run" / "checkpoint.pt", small, checkpoint.start(small, SHAPE, CPU))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]
