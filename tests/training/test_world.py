"""Two processes on CPUs against one: the same gradients, weights and figures, but for the order of sums."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from training import checkpoint, train, world
from training.recipe import Recipe
from training.score import score
from training.world import ALONE

CPU = torch.device("cpu")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def member(rank: int, port: int, recipes: list[Recipe], images: Tensor, folder: Path) -> None:
    """One of two processes, as torchrun would start it: a step of each recipe, and then a whole run of the first."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with world.join(CPU) as (processes, device):
        assert (processes.rank, processes.size, device) == (rank, 2, CPU)
        results = []
        for recipe in recipes:
            state = checkpoint.start(recipe, (28, 28), CPU)
            met = train.epoch(recipe, state, images[:33], lambda _: None, processes)
            gradients = [each.grad.clone() for each in state.model.parameters() if each.grad is not None]
            results.append((gradients, (met.distortion, met.rate)))
        torch.save(results, folder / f"gradients-{rank}.pt")
        state = checkpoint.start(recipes[0], (28, 28), CPU)
        train.fit(recipes[0], state, images[:500], images[500:], folder / "run", processes)
        torch.save(state.model.state_dict(), folder / f"weights-{rank}.pt")


def together(recipes: list[Recipe], images: Tensor, folder: Path) -> None:
    spawn(member, (free_port(), recipes, images, folder), nprocs=2)  # type: ignore[no-untyped-call]


def test_two_processes_train_as_one_does(small: Recipe, images: Tensor, tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"objective": "calibrated", "free_bits": 0.3, "augmentation": 0.5},
        {"objective": "bernoulli", "importance_samples": 3},
    ]
    recipes = [small.model_copy(update={"epochs": 2} | changes) for changes in variants]
    together(recipes, images, tmp_path)
    both = [torch.load(tmp_path / f"gradients-{rank}.pt") for rank in range(2)]
    for recipe, first, second in zip(recipes, *both, strict=True):
        state = checkpoint.start(recipe, (28, 28), CPU)
        met = train.epoch(recipe, state, images[:33], lambda _: None)  # one batch of 33: the shares are unequal
        alone = [each.grad for each in state.model.parameters()]
        for mine, yours, expected in zip(first[0], second[0], alone, strict=True):
            assert torch.equal(mine, yours)
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
        assert first[1] == second[1]
        assert first[1] == pytest.approx((met.distortion, met.rate), rel=1e-5)

    weights = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    state = checkpoint.start(recipes[0], (28, 28), CPU)
    train.fit(recipes[0], state, images[:500], images[500:], tmp_path / "alone")
    joined = checkpoint.trained(tmp_path / "run" / checkpoint.CHECKPOINT)
    found = score(recipes[0], joined.model, images[500:]).total
    assert found == pytest.approx(score(recipes[0], state.average, images[500:]).total, rel=1e-3)
    assert found == pytest.approx(sum(joined.history[-1][2:]), rel=1e-5)  # the score that the two of them shared


def test_a_process_alone_shares_with_nobody() -> None:
    rows = torch.arange(5.0)
    assert ALONE.share(rows) is rows
    assert ALONE.part(rows) == 2
    assert ALONE.mean(rows) == 2
    assert not ALONE.any(False)
    with world.join(CPU) as joined:
        assert joined == (ALONE, CPU)
