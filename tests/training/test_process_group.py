"""Two processes on CPUs against one: the same gradients, weights and figures, but for the order of sums."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from harness.paths import ROOT
from training import checkpoint, process_group, train
from training.process_group import ALONE
from training.recipe import Recipe
from training.score import score

from . import group_member

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes under torchrun have left their results."""
    folder = tmp_path_factory.mktemp("together")
    # --standalone: torchrun lets the system choose a port and tells it to its processes.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*command, "-m", "tests.training.group_member", str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return folder


def test_two_processes_make_the_step_of_one(together: Path, small: Recipe, images: Tensor) -> None:
    both = [torch.load(together / f"gradients-{rank}.pt") for rank in range(2)]
    for recipe, first, second in zip(group_member.recipes(small), *both, strict=True):
        state = checkpoint.start(recipe, (28, 28), CPU)
        met = train.epoch(recipe, state, images[: group_member.BATCH], lambda _: None)
        alone = [each.grad for each in state.model.parameters()]
        for mine, yours, expected in zip(first[0], second[0], alone, strict=True):
            assert torch.equal(mine, yours)
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
        assert first[1] == second[1]
        assert first[1] == pytest.approx((met.distortion, met.rate), rel=1e-5)


def test_two_processes_train_as_one_does(together: Path, small: Recipe, images: Tensor, tmp_path: Path) -> None:
    weights = [torch.load(together / f"weights-{rank}.pt") for rank in range(2)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    recipe = group_member.recipes(small)[0]
    state = checkpoint.start(recipe, (28, 28), CPU)
    train.fit(recipe, state, images[:500], images[500:], tmp_path)
    joined = checkpoint.trained(together / "run" / checkpoint.CHECKPOINT)
    found = score(recipe, joined.model, images[500:]).total
    assert found == pytest.approx(score(recipe, state.average, images[500:]).total, rel=1e-3)
    assert found == pytest.approx(sum(joined.history[-1][2:]), rel=1e-5)  # the score that both computed together


def test_a_process_alone_shares_with_no_other() -> None:
    rows = torch.arange(5.0)
    assert ALONE.share(rows) is rows
    assert ALONE.part(rows) == 2
    assert ALONE.mean(rows) == 2
    assert not ALONE.any(False)
    with process_group.join(CPU) as joined:
        assert joined == (ALONE, CPU)


def test_the_group_ends_for_all_at_once_and_not_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *_, name=name, **__: calls.append(name))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    with process_group.join(CPU) as (group, _):
        assert (group.rank, group.size, group.first) == (1, 2, False)
    assert calls == ["init_process_group", "barrier", "destroy_process_group"]
    calls.clear()
    with pytest.raises(ValueError, match="of this process alone"), process_group.join(CPU):
        raise ValueError("of this process alone")
    assert calls == ["init_process_group", "destroy_process_group"]
