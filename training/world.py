"""The processes that train together, and what they tell each other; by far most often one, which tells nobody.

    torchrun --nproc-per-node 2 -m training --recipe mnist-mlp --data-dir DIR

torchrun starts a process for each GPU (or, on CPUs, as many as it is told) on one machine or several and says to each
which it is. All draw the same batch and the same noise and take every size-th image of it; gradients are summed before
the step. So the weights are the same in all, and those that one process alone would reach, but for the order of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class World:
    """Which process it is, `rank`, of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def share(self, rows: Tensor, axis: int = 0) -> Tensor:
        """Of what all have drawn alike the part of one process: every size-th row, from its rank on."""
        if self.size == 1:
            return rows
        index = [slice(None)] * axis + [slice(self.rank, None, self.size)]
        return rows[tuple(index)]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor, in place; all processes have to call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over all processes' rows, [N, ...] -> [...]. No gradient passes."""
        if self.size == 1:
            return rows.mean(0)
        total = self.sum(rows.sum(0))
        return total / self._count(rows)

    def part(self, per_image: Tensor) -> Tensor:
        """What one process adds to the mean of [N] over the images of all: its sum, divided by their number."""
        if self.size == 1:
            return per_image.mean()
        return per_image.sum() / self._count(per_image)

    def sum_gradients(self, parameters: list[Tensor]) -> None:
        """Put the sum of every process's gradients in the place of this one's, in one message."""
        if self.size == 1:
            return
        gradients = [each.grad if each.grad is not None else torch.zeros_like(each) for each in parameters]
        message = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, piece in zip(
            parameters, torch.split(message, [each.numel() for each in gradients]), strict=True
        ):
            parameter.grad = piece.view_as(parameter)

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all have to ask."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.sum(torch.tensor(float(flag), device=device)))

    def _count(self, rows: Tensor) -> Tensor:
        return self.sum(torch.tensor(float(len(rows)), device=rows.device))


ALONE = World()


@contextmanager
def join(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world that torchrun says this process belongs to, and the device that is its own there.

    Without torchrun a process is alone. Messages go by NCCL between GPUs and by Gloo between CPUs.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
