"""A run of the program from its command line to its files: what is in the way, stopping, and going on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from harness.paths import ROOT
from service.contract import Contract
from training import card_text, checkpoint, data, run, train
from training.__main__ import USAGE, main
from training.recipe import Recipe, read, to_toml

from . import subset
from .conftest import Run
from .pictures import write_pictures
from .test_train import CPU, equal, interrupt_epoch, weights_after

SENTENCE = "go on with it with --resume, replace it with --restart, or give the new run another --name."


def arguments(folder: Path, *more: str, models: Path | None = None) -> list[str]:
    """A small run on the subset, with all its files in `folder`."""
    places = [f"--runs-dir={folder}", f"--models-dir={models or folder / 'models'}"]
    return [*subset.SMALL_ARGUMENTS, f"--data-dir={subset.DIRECTORY}", *places, *more]


def again(finished: Run, tmp_path: Path) -> Path:
    """A copy of the finished run's files, for a test that changes them."""
    return Path(shutil.copytree(finished.runs, tmp_path / "runs"))


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the training alone: nothing is evaluated or exported."""
    monkeypatch.setattr(run, "_export", lambda *_: None)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.trained(path).model.state_dict()


class TestConflicts:
    """Found before the first step: nothing is read, and no file changes."""

    @pytest.fixture(autouse=True)
    def _nothing_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(data, "load_both", None)

    def test_a_version_that_exists(self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments(tmp_path, "--version=1", models=finished.models)) == 1
        assert capsys.readouterr().err == (
            f"{finished.bundle} exists: leave out --version to take the next free one, or add --overwrite to replace "
            "it.\n"
        )
        assert not any(tmp_path.iterdir())

    def test_a_finished_run(self, finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
        before = finished.checkpoint.read_bytes()
        assert main(arguments(finished.runs)) == 1
        assert capsys.readouterr().err == f"{finished.folder} has a run already, with 4 of 4 epochs: {SENTENCE}\n"
        assert finished.checkpoint.read_bytes() == before


@pytest.mark.usefixtures("without_export")
def test_a_run_is_replaced_on_demand(finished: Run, tmp_path: Path) -> None:
    runs = again(finished, tmp_path)
    path = runs / "mnist-mlp" / checkpoint.CHECKPOINT
    assert main(arguments(runs, "--restart", "--epochs=1")) == 0
    assert checkpoint.progress_of(path) == (1, 1)
    assert len((path.parent / train.LOG).read_text().splitlines()) == 1
    assert len(list((path.parent / train.TENSORBOARD).iterdir())) == 1
    assert not (path.parent / checkpoint.REPORT).exists()


def test_changed_epochs_give_a_new_version(finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = Path(shutil.copytree(finished.models, tmp_path / "models"))
    assert main(arguments(tmp_path / "runs", "--epochs=1", models=models)) == 0
    place = models / "mnist-mlp" / "2"
    assert f"{place} is the new bundle mnist-mlp@2; its card is {place / 'README.md'}." in capsys.readouterr().out
    bundle = Contract.from_json((place / "model.json").read_bytes())
    assert (bundle.version, bundle.recipe["epochs"]) == (2, 1)


class TestResume:
    """Going on with a run."""

    @pytest.mark.usefixtures("without_export")
    def test_a_finished_run_trains_no_further(self, finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
        before = finished.checkpoint.read_bytes()
        assert main(["train", "--resume", *arguments(finished.runs, models=finished.models)[-3:]]) == 0
        assert "all 4 epochs are trained" in capsys.readouterr().out
        assert finished.checkpoint.read_bytes() == before

    @pytest.mark.usefixtures("without_export")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_what_is_printed_after_ctrl_c_goes_on(
        self,
        number: signal.Signals,
        small: Recipe,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        before = signal.getsignal(number)
        with monkeypatch.context() as patch:
            interrupt_epoch(patch, 2, number)
            assert main(arguments(tmp_path, "--checkpoint-every=4")) == 130
        assert signal.getsignal(number) == before
        told = capsys.readouterr().err
        assert told.startswith("Stopped and saved. To go on: ")
        command = shlex.split(told.removeprefix("Stopped and saved. To go on: "))
        assert command[1:7] == ["-m", "training", "train", "--resume", "--name", "mnist-mlp"]
        path = tmp_path / "mnist-mlp" / checkpoint.CHECKPOINT
        assert checkpoint.progress_of(path) == (2, 4)
        assert main(command[3:]) == 0
        images, _ = data.split(data.load("mnist", "train", subset.DIRECTORY)[0], small.validation_size)
        resumed = checkpoint.resume(path, checkpoint.recipe_of(path), CPU).state
        assert equal(resumed, weights_after(small.model_copy(update={"checkpoint_every": 4}), images, tmp_path / "x"))

    def test_a_second_ctrl_c_stops_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        interrupt_epoch(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
        assert main(arguments(tmp_path)) == 130
        told = capsys.readouterr().err
        assert told.startswith("Stopped at once. To go on from the last checkpoint: ")
        assert " train --resume --name mnist-mlp " in told

    def test_a_run_that_is_stopped_before_its_first_checkpoint_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        interrupt_epoch(monkeypatch, 1, signal.SIGINT, signal.SIGINT)
        assert main(arguments(tmp_path)) == 130
        assert capsys.readouterr().err.endswith("Stopped at once. Nothing is saved yet.\n")

    def test_a_run_of_my_own_recipe_and_pictures_goes_on_as_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Executed as printed, in a process of its own."""
        write_pictures(tmp_path / "my toys", {"balls": 12, "bars": 30})
        mine = tmp_path / "mine.toml"
        changes = subset.SMALL | {"dataset": "folder:my toys", "epochs": 3, "prior_components": 2}
        mine.write_text(to_toml(Recipe.model_validate(read("mnist-mlp").model_dump() | changes)))
        places = [f"--data-dir={tmp_path}", f"--runs-dir={tmp_path / 'runs'}", f"--models-dir={tmp_path / 'models'}"]
        with monkeypatch.context() as patch:
            interrupt_epoch(patch, 1, signal.SIGINT)
            assert main([f"--recipe={mine}", "--quick", *places]) == 130
        mine.unlink()  # the run knows its recipe
        captured = capsys.readouterr()
        assert "7 of the 37 training images validate, a fifth, instead of 100." in captured.out
        command = shlex.split(captured.err.partition("Stopped and saved. To go on: ")[2])
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "epochs 2 to 3 on cpu" in ended.stdout
        assert "There are only 5 test images, so all figures are rough" in ended.stdout
        assert "No bundle is written." in ended.stdout

    def test_the_only_run_needs_no_name_and_one_of_several_does(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs = again(finished, tmp_path)
        assert main(["train", "--resume", "--hidden=49", f"--runs-dir={runs}", f"--data-dir={subset.DIRECTORY}"]) == 1
        assert "was trained with another value of hidden, which --resume cannot change" in capsys.readouterr().err
        shutil.copytree(runs / "mnist-mlp", runs / "other")
        assert main(["train", "--resume", f"--runs-dir={runs}"]) == 1
        assert capsys.readouterr().err == (
            f"There are several runs under {runs}: say which to resume with --name, of mnist-mlp, other.\n"
        )

    def test_there_must_be_a_run_to_resume(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--resume", f"--runs-dir={tmp_path}"]) == 1
        assert capsys.readouterr().err == (
            f"There is no run to resume under {tmp_path}; --runs-dir names another folder.\n"
        )
        assert main(["--resume", "--name=birds", f"--runs-dir={tmp_path}"]) == 1
        assert capsys.readouterr().err == f"There is no checkpoint {tmp_path / 'birds' / 'checkpoint.pt'}.\n"

    @pytest.mark.usefixtures("without_export")
    def test_a_finished_run_can_get_another_prior_and_a_refined_encoder(self, finished: Run, tmp_path: Path) -> None:
        runs = again(finished, tmp_path)
        path = runs / "mnist-mlp" / checkpoint.CHECKPOINT
        before = weights(path)
        changes = ["--prior-components=3", "--refinement-steps=4"]
        assert main(["train", "--resume", *changes, *arguments(runs)[-3:]]) == 0
        found = checkpoint.recipe_of(path)
        assert (found.prior_components, found.refinement_steps) == (3, 4)
        assert all(torch.equal(weights(path)[name], before[name]) for name in before)

    @pytest.mark.usefixtures("without_export")
    def test_the_run_s_own_recipe_counts_and_a_file_that_differs_is_mentioned(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        constant = ["--schedule=constant", "--warmup=0", "--initial-factor=1", "--final-factor=1"]
        assert main(arguments(tmp_path, *constant, "--epochs=1")) == 0
        line = ["--recipe=mnist-mlp", "--resume", "--epochs=2", *arguments(tmp_path)[-3:]]
        assert main(line) == 0
        assert "goes on as it was started, not as recipe mnist-mlp says: with validation_size 100, hidden 48, " in (
            capsys.readouterr().out
        )
        assert checkpoint.progress_of(tmp_path / "mnist-mlp" / checkpoint.CHECKPOINT) == (2, 2)


class TestExtending:
    """--resume with another number of epochs."""

    @pytest.mark.usefixtures("without_export")
    def test_with_a_constant_rate_the_weights_are_those_of_one_long_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        constant = ["--schedule=constant", "--warmup=0", "--initial-factor=1", "--final-factor=1"]
        assert main(arguments(tmp_path / "long", *constant, "--epochs=3")) == 0
        assert main(arguments(tmp_path / "short", *constant, "--epochs=1")) == 0
        places = arguments(tmp_path / "short")[-3:]
        capsys.readouterr()
        assert main(["train", "--resume", "--epochs=3", *places]) == 0
        assert "The run now has 3 epochs instead of 1." in capsys.readouterr().out
        long, short = (tmp_path / name / "mnist-mlp" / checkpoint.CHECKPOINT for name in ("long", "short"))
        assert checkpoint.recipe_of(short) == checkpoint.recipe_of(long)
        expected, found = weights(long), weights(short)
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    @pytest.mark.usefixtures("without_export")
    def test_with_a_schedule_the_run_is_said_to_be_extended(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs = again(finished, tmp_path)
        assert main(["train", "--resume", "--epochs=5", *arguments(runs)[-3:]]) == 0
        assert "The finished run of 4 epochs is extended to 5." in capsys.readouterr().out
        found = checkpoint.recipe_of(runs / "mnist-mlp" / checkpoint.CHECKPOINT)
        assert (found.epochs, found.extended_from) == (5, [4])
        bundle = Contract.from_json((finished.bundle / "model.json").read_bytes())
        card = card_text.training(bundle, found, has_curves=True)
        assert "train --resume --name mnist-mlp --epochs 5\n" in card
        assert "The run was extended: it had 4 epochs before." in card

    def test_an_unfinished_run_keeps_its_schedule(
        self, finished: Run, tmp_path: Path, small: Recipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "mnist-mlp" / checkpoint.CHECKPOINT
        checkpoint.save(path, small, checkpoint.start(small, (28, 28), CPU))
        assert main(["train", "--resume", "--epochs=5", *arguments(tmp_path)[-3:]]) == 1
        assert "is at epoch 0 of 4, and its learning rate follows that total" in capsys.readouterr().err

    def test_epochs_that_are_trained_stay(self, finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "--resume", "--epochs=3", *arguments(finished.runs)[-3:]]) == 1
        assert "has 4 epochs already: --epochs must be that or more." in capsys.readouterr().err


class TestOtherDevice:
    """A run that goes on on another device. There may be no GPU here, so the state of its generator is made up."""

    def test_a_run_of_a_gpu_goes_on_on_a_cpu_and_says_what_that_means(self, finished: Run, tmp_path: Path) -> None:
        document = torch.load(finished.checkpoint, weights_only=True)
        path = tmp_path / "checkpoint.pt"
        # The state of a GPU's generator is its seed and an offset, 8 bytes each.
        torch.save(document | {"device": "cuda", "noise": torch.zeros(16, dtype=torch.uint8)}, path)
        recipe = checkpoint.recipe_of(path)
        first, second = (checkpoint.resume(path, recipe, CPU) for _ in range(2))
        assert first.notes == [
            "The run began on cuda. Random numbers of cpu are others, so the weights will not be those of a run on one "
            "device."
        ]
        assert torch.equal(first.state.noise.get_state(), second.state.noise.get_state())
        assert equal(first.state, checkpoint.resume(finished.checkpoint, recipe, CPU).state)
        assert checkpoint.trained(path).device == "cuda"

    def test_older_checkpoints_do_not_name_their_device(self, finished: Run, tmp_path: Path) -> None:
        document = torch.load(finished.checkpoint, weights_only=True)
        del document["device"]
        for noise, device in ((document["noise"], "cpu"), (torch.zeros(16, dtype=torch.uint8), "cuda")):
            torch.save(document | {"noise": noise}, tmp_path / "checkpoint.pt")
            assert checkpoint.trained(tmp_path / "checkpoint.pt").device == device

    @pytest.mark.usefixtures("without_export")
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
    @pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
    def test_a_run_changes_between_cpu_and_gpu(self, first: str, then: str, tmp_path: Path) -> None:
        constant = ["--schedule=constant", "--warmup=0", "--initial-factor=1", "--final-factor=1"]
        assert main(arguments(tmp_path, *constant, "--epochs=1", f"--device={first}")) == 0
        line = ["train", "--resume", "--epochs=2", f"--device={then}", *arguments(tmp_path)[-3:]]
        assert main(line) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_never_replaced_by_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device=cuda"]) == 2
    assert capsys.readouterr().err == "There is no CUDA device that this PyTorch can use; train with --device cpu.\n"


class TestCommandLine:
    """`python -m training COMMAND`."""

    def test_help_lists_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        told = capsys.readouterr().out
        assert told == f"{USAGE}\n"
        for name in ("train", "export", "evaluate", "compare"):
            assert f"\n  {name} " in told

    @pytest.mark.parametrize("name", ["train", "export", "evaluate", "compare"])
    def test_each_command_has_its_help(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exited:
            main([name, "--help"])
        assert exited.value.code == 0
        assert f"usage: python -m training {name}" in capsys.readouterr().out

    def test_an_unknown_command_is_answered_with_the_known_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["trian"]) == 2
        assert capsys.readouterr().err == (
            "There is no command trian; known are train, export, refine, evaluate, statistics, sharpen, typicality, "
            "compare.\n"
        )
