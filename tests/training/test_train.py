from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor

from training import train
from training.checkpoint import State, start
from training.errors import TrainingError
from training.networks.mlp import MLP
from training.recipe import Recipe
from training.score import Score, score

from . import subset
from .conftest import Run

CPU = torch.device("cpu")
SHAPE = (28, 28)


def test_one_cycle_rises_then_falls(small: Recipe) -> None:
    recipe = small.model_copy(
        update={
            "learning_rate": 2.0,
            "warmup": 0.25,
            "initial_factor": 0.1,
            "final_factor": 0.01,
            "schedule": "one-cycle",
        }
    )
    rates = [train.learning_rate(recipe, step / 100) for step in range(101)]
    assert [rates[0], rates[25], rates[100]] == pytest.approx([0.2, 2.0, 0.02])
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)


def test_a_constant_rate_is_constant(small: Recipe) -> None:
    recipe = small.model_copy(update={"schedule": "constant"})
    assert {train.learning_rate(recipe, share) for share in (0.0, 0.3, 1.0)} == {recipe.learning_rate}


def test_an_epoch_meets_every_image_once(small: Recipe, images: Tensor) -> None:
    sizes: list[int] = []
    state = start(small, SHAPE, CPU)
    train.epoch(small, state, images[:500], sizes.append)
    assert (sizes, state.step) == ([64] * 7 + [52], 8)


def test_training_lowers_the_loss_and_the_average_follows(small: Recipe, images: Tensor, tmp_path: Path) -> None:
    recipe = small.model_copy(update={"epochs": 40, "averaging_decay": 0.9, "checkpoint_every": 40})
    state = start(recipe, SHAPE, CPU)
    before = train.epoch(recipe, state, images, lambda _: None)
    train.fit(recipe, state, images, images[:100], tmp_path)
    assert score(recipe, state.average, images).total < before.total / 2
    apart = [
        (a - m).abs().max().item() for a, m in zip(state.average.parameters(), state.model.parameters(), strict=True)
    ]
    assert 0 < max(apart) < 0.1


def test_without_averaging_the_last_weights_count(small: Recipe) -> None:
    state = start(small.model_copy(update={"averaging_decay": 0}), SHAPE, CPU)
    assert state.average is state.model


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    small: Recipe, images: Tensor, tmp_path: Path
) -> None:
    first, second, other = (
        weights_after(small.model_copy(update={"seed": seed}), images, tmp_path) for seed in (1, 1, 2)
    )
    assert equal(first, second)
    assert not equal(first, other)


def test_validation_never_moves_the_training(small: Recipe, images: Tensor, tmp_path: Path) -> None:
    assert equal(weights_after(small, images, tmp_path), weights_after(small, images, tmp_path, validation=images[:3]))


def test_a_loss_that_is_no_longer_finite_ends_the_training(small: Recipe, images: Tensor) -> None:
    state = start(small, SHAPE, CPU)
    assert isinstance(state.model, MLP)
    with torch.no_grad():
        state.model.posterior.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="no longer finite in epoch 1"):
        train.epoch(small, state, images, lambda _: None)


def test_weight_decay_shrinks_matrices_and_leaves_biases_alone(small: Recipe, images: Tensor) -> None:
    plain, decayed = (start(small.model_copy(update={"weight_decay": decay}), SHAPE, CPU) for decay in (0.0, 20.0))
    for state in (plain, decayed):
        train.epoch(small, state, images[:64], lambda _: None)
    for (name, one), other in zip(plain.model.named_parameters(), decayed.model.parameters(), strict=True):
        assert torch.equal(one, other) == name.endswith("bias")
        if not name.endswith("bias"):
            assert other.norm() < one.norm()


def test_a_gradient_beyond_the_limit_is_clipped_to_it(
    small: Recipe, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.model_copy(update={"gradient_limit": 0.01})
    state = start(recipe, SHAPE, CPU)
    train.epoch(recipe, state, images[:64], lambda _: None)
    gradients = [each.grad for each in state.model.parameters() if each.grad is not None]
    norm = torch.cat([each.flatten() for each in gradients]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_that_overflowed_takes_no_step_where_gradients_are_guarded(small: Recipe, images: Tensor) -> None:
    recipe = small.model_copy(update={"gradient_limit": 10.0})
    state = start(recipe, SHAPE, CPU)
    before = [each.detach().clone() for each in state.model.parameters()]
    next(state.model.parameters()).register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    train.epoch(recipe, state, images[:64], lambda _: None)
    assert all(torch.equal(one, other) for one, other in zip(before, state.model.parameters(), strict=True))


def test_bfloat16_products_leave_weights_and_score_in_float32(small: Recipe, images: Tensor) -> None:
    recipe = small.model_copy(update={"precision": "bfloat16", "epochs": 10})
    state, exact = start(recipe, SHAPE, CPU), start(recipe, SHAPE, CPU)
    for _ in range(recipe.epochs):
        train.epoch(recipe, state, images, lambda _: None)
        train.epoch(recipe.model_copy(update={"precision": "float32"}), exact, images, lambda _: None)
    assert {each.dtype for each in state.model.parameters()} == {torch.float32}
    assert not equal(state, exact)
    scores = [score(recipe, each.average, images).total for each in (state, exact)]
    assert scores[0] == pytest.approx(scores[1], rel=0.02)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_limit": 50.0, "averaging_decay": 0.9},
        {"kl_warmup": 0.5, "beta": 2.0, "schedule": "constant", "warmup": 0, "initial_factor": 1, "final_factor": 1},
    ],
    ids=["one-cycle, clipped, averaged", "warm-up of the rate"],
)
def test_numbers_of_a_step_may_be_tensors_as_a_cuda_graph_needs_them(
    changes: dict[str, Any], small: Recipe, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.model_copy(update=changes)
    states = [start(recipe, SHAPE, CPU) for _ in range(2)]
    steps = [train.Step(recipe, state, images) for state in states]
    monkeypatch.setattr(steps[1], "_captured", steps[1]._take_tensors)
    for _ in range(recipe.epochs):
        for state, step in zip(states, steps, strict=True):
            train.epoch(recipe, state, images, lambda _: None, step=step)
    for one, other in zip(states[0].average.parameters(), states[1].average.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert states[0].optimiser.param_groups[0]["lr"] == states[1].optimiser.param_groups[0]["lr"]


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "calibrated"},
        {"objective": "bernoulli"},
        {"objective": "bernoulli", "importance_samples": 4},
        {"kl_warmup": 0.5, "free_bits": 0.1, "beta": 2.0},
    ],
    ids=["calibrated", "bernoulli", "importance-weighted", "weighted rate"],
)
def test_every_objective_is_lowered_by_training(changes: dict[str, Any], small: Recipe, images: Tensor) -> None:
    recipe = small.model_copy(update=changes | {"epochs": 10})
    state = start(recipe, SHAPE, CPU)
    before = score(recipe, state.model, images).total
    for _ in range(recipe.epochs):
        train.epoch(recipe, state, images, lambda _: None)
        state.epoch += 1
    assert score(recipe, state.model, images).total < before - 50


def test_the_log_has_the_lines_that_were_shown(finished: Run) -> None:
    lines = (finished.folder / train.LOG).read_text().splitlines()
    assert lines == [line for line in finished.output.splitlines() if line.startswith("epoch ")]


def test_tensorboard_gets_scalars_with_steps_and_panels(finished: Run) -> None:
    log = EventAccumulator(str(finished.folder / "tensorboard")).Reload()
    for part in ("train", "validation"):
        for term in ("distortion", "rate", "total"):
            assert [event.step for event in log.Scalars(f"{term}/{part}")] == [1, 2, 3, 4]
        panel = log.Images(f"reconstruction/{part}")[-1]
        assert (panel.width, panel.height) == (2 * 28, train.PANEL_IMAGES * 28)


def test_progress_off_a_terminal_is_a_line_an_epoch(finished: Run) -> None:
    lines = [line for line in finished.output.splitlines() if line.startswith("epoch ")]
    assert len(lines) == subset.SMALL["epochs"]
    for word in ("distortion", "rate", "total", "images/s", "left"):
        assert word in lines[0]


def interrupt_epoch(monkeypatch: pytest.MonkeyPatch, number: int, *signals: signal.Signals) -> None:
    """Have the process get these signals, one after the other, as the epoch of this number begins.

    Not by os.kill: the kernel may give such a signal to another thread, and two that are pending become one.
    """
    epoch = train.epoch

    def interrupted(recipe: Recipe, state: State, *rest: Any) -> Score:
        if state.epoch == number - 1:
            for each in signals:
                signal.raise_signal(each)
        return epoch(recipe, state, *rest)

    monkeypatch.setattr(train, "epoch", interrupted)


def weights_after(recipe: Recipe, images: Tensor, folder: Path, validation: Tensor | None = None) -> State:
    state = start(recipe, SHAPE, CPU)
    train.fit(recipe, state, images, images[-100:] if validation is None else validation, folder / "uninterrupted")
    return state


def equal(one: State, other: State) -> bool:
    pairs = zip(
        [*one.model.parameters(), *one.average.parameters()],
        [*other.model.parameters(), *other.average.parameters()],
        strict=True,
    )
    return all(torch.equal(left, right) for left, right in pairs)
