"""Training on a GPU: as good as on a CPU, the same as graphs and without, and resumed from both."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from tests.training import subset
from tests.training.test_train import CPU, SHAPE, interrupt_epoch
from training import augment, captured, checkpoint, data, recipe, train
from training.checkpoint import CHECKPOINT, State
from training.errors import TrainingError
from training.networks.mlp import MLP
from training.recipe import Recipe
from training.score import score

GPU: Final = torch.device("cuda")
VALIDATION: Final = 100
EPOCHS: Final = 12  # of which the last eight are graphs only: each has one batch of the smaller size

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "squared error": {},
    "no average": {"averaging_decay": 0.0},
    "calibrated, warm-up, free bits, warped": {
        "objective": "calibrated",
        "kl_warmup": 0.5,
        "free_bits": 0.1,
        "augmentation": 0.5,
    },
    "importance-weighted, clipped": {"objective": "bernoulli", "importance_samples": 3, "gradient_limit": 50.0},
    "residual, bfloat16": {"network": "resmlp", "blocks": 2, "precision": "bfloat16", "weight_decay": 0.1},
}
each_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture(autouse=True)
def _subset(monkeypatch: pytest.MonkeyPatch) -> None:
    """In these tests "mnist" is the committed subset."""
    monkeypatch.setitem(data.DATASETS, "mnist", subset.SUBSET)


@pytest.fixture
def small() -> Recipe:
    """mnist-mlp, made small."""
    return recipe.read("mnist-mlp").model_copy(update=subset.SMALL | {"epochs": EPOCHS, "checkpoint_every": EPOCHS})


@pytest.fixture
def images() -> Tensor:
    """uint8 [600, 28, 28]: real digits."""
    return data.load("mnist", "train", subset.DIRECTORY)[0]


def test_training_reaches_the_total_of_a_cpu(small: Recipe, images: Tensor, tmp_path: Path) -> None:
    """From the same first weights in the same order. Noise is other noise, which is worth 1 % with so few images."""
    recipe = small.model_copy(update={"epochs": 40, "checkpoint_every": 40})
    states = [trained(recipe, images, device, tmp_path / str(device)) for device in (CPU, GPU)]
    validation = images[-VALIDATION:]
    totals = [score(recipe, state.average, validation.to(state.noise.device)).total for state in states]
    assert totals[1] == pytest.approx(totals[0], rel=0.04)
    assert totals[1] == pytest.approx(score(recipe, states[1].average.to(CPU), validation).total, abs=0.01)


@each_variant
def test_graphs_give_the_weights_that_steps_from_python_give(
    changes: dict[str, Any], small: Recipe, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.model_copy(update=changes)
    graphs = trained(recipe, images, GPU, tmp_path / "graphs")
    with monkeypatch.context() as patch:
        patch.setattr(captured, "WARM_UP", sys.maxsize)
        launched = trained(recipe, images, GPU, tmp_path / "launched")
    assert difference(graphs, launched) == 0
    assert torch.equal(graphs.noise.get_state(), launched.noise.get_state())


@each_variant
def test_a_run_that_is_stopped_and_resumed_ends_bit_identical(
    changes: dict[str, Any], small: Recipe, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.model_copy(update=changes)
    whole = trained(recipe, images, GPU, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, EPOCHS // 2, signal.SIGTERM)
        with pytest.raises(train.Interrupted):
            trained(recipe, images, GPU, tmp_path / "stopped")
    resumed = checkpoint.resume(tmp_path / "stopped" / CHECKPOINT, recipe, GPU)
    assert (resumed.state.epoch, resumed.notes) == (EPOCHS // 2, [])
    fit(recipe, resumed.state, images, tmp_path / "stopped")
    assert difference(whole, resumed.state) == 0


@pytest.mark.parametrize(("first", "second"), [(CPU, GPU), (GPU, CPU)], ids=["to the GPU", "to the CPU"])
def test_a_run_goes_on_on_another_device(
    first: torch.device,
    second: torch.device,
    small: Recipe,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = trained(small, images, CPU, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, EPOCHS // 2, signal.SIGTERM)
        with pytest.raises(train.Interrupted):
            trained(small, images, first, tmp_path / "stopped")
    resumed = checkpoint.resume(tmp_path / "stopped" / CHECKPOINT, small, second)
    assert f"The run began on {first.type}." in resumed.notes[0]
    fit(small, resumed.state, images, tmp_path / "stopped")
    assert next(resumed.state.model.parameters()).device.type == second.type
    totals = [score(small, each.average.to(CPU), images[-VALIDATION:]).total for each in (whole, resumed.state)]
    assert totals[1] == pytest.approx(totals[0], rel=0.04)
    document = torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True, map_location="cpu")
    assert {type(each["lr"]) for each in document["optimiser"]["param_groups"]} == {float}


def test_a_gradient_that_overflowed_takes_no_step(small: Recipe, images: Tensor) -> None:
    recipe = small.model_copy(update={"gradient_limit": 10.0})
    state = checkpoint.start(recipe, SHAPE, GPU)
    assert isinstance(state.model, MLP)
    with torch.no_grad():
        state.model.posterior.bias.fill_(200)  # a variance of more than a float32 holds
    before = [each.detach().clone() for each in state.model.parameters()]
    with pytest.raises(TrainingError, match="no longer finite"):
        train.epoch(recipe, state, images.to(GPU), lambda _: None)
    assert all(torch.equal(one, other) for one, other in zip(before, state.model.parameters(), strict=True))


def test_a_loss_that_is_no_longer_finite_ends_the_training(small: Recipe, images: Tensor) -> None:
    state = checkpoint.start(small, SHAPE, GPU)
    assert isinstance(state.model, MLP)
    step = train.Step(small, state, images.to(GPU))
    for _ in range(captured.WARM_UP + 2):
        train.epoch(small, state, images.to(GPU), lambda _: None, step=step)
    with torch.no_grad():
        state.model.posterior.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="no longer finite"):
        train.epoch(small, state, images.to(GPU), lambda _: None, step=step)


def test_images_are_warped_as_on_a_cpu(images: Tensor) -> None:
    changed = (augment.warped(images.to(GPU), 0.5, torch.Generator(GPU).manual_seed(0)).cpu() != images).flatten(1)
    assert 240 <= changed.any(1).sum() <= 360
    uniform = torch.rand(len(images), 6, generator=torch.Generator().manual_seed(0))
    warped = [augment._warped(images.to(device), uniform.to(device)).cpu().int() for device in (CPU, GPU)]
    assert (warped[0] - warped[1]).abs().max() <= 1


def trained(recipe: Recipe, images: Tensor, device: torch.device, folder: Path) -> State:
    """The state at the end of a run."""
    state = checkpoint.start(recipe, SHAPE, device)
    fit(recipe, state, images, folder)
    return state


def fit(recipe: Recipe, state: State, images: Tensor, folder: Path) -> None:
    training, validation = data.split(images.to(state.noise.device), VALIDATION)
    train.fit(recipe, state, training, validation, folder)


def difference(one: State, other: State) -> float:
    """The largest one between the weights and the averages of two states."""
    pairs = zip(
        [*one.model.parameters(), *one.average.parameters()],
        [*other.model.parameters(), *other.average.parameters()],
        strict=True,
    )
    return max((left - right).abs().max().item() for left, right in pairs)
