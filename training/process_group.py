"""The processes that train together. Most runs have one process, which needs no messages.

    torchrun --nproc-per-node 2 -m training train --recipe mnist-mlp --data-dir DIR

torchrun starts one process for each GPU, or on CPUs as many as it is told, on one machine or several. It gives each
process its rank. All processes draw the same batch and the same noise. Each works on its share: every size-th image.
Gradients are summed before the step. So all processes have the same weights, and these differ from the weights of one
process only by the order of sums.
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
class ProcessGroup:
    """One process of a group: its number, `rank`, and the number of processes, `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, rows: Tensor, axis: int = 0) -> Tensor:
        """The share of one process in rows that all processes have: every size-th row along `axis`, from `rank` on."""
        if self.size == 1:
            return rows
        index = [slice(None)] * axis + [slice(self.rank, None, self.size)]
        return rows[tuple(index)]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place. Every process has to call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over all processes' rows, [N, ...] -> [...], without a gradient."""
        if self.size == 1:
            return rows.mean(0)
        total = self.sum(rows.sum(0))
        return total / self._count(rows)

    def part(self, per_image: Tensor) -> Tensor:
        """One process's part of the mean over all images: its sum of [N], divided by the number of all images."""
        if self.size == 1:
            return per_image.mean()
        return per_image.sum() / self._count(per_image)

    def sum_gradients(self, parameters: list[Tensor]) -> None:
        """Replace each gradient by the sum over all processes. One message carries all gradients."""
        if self.size == 1:
            return
        gradients = [each.grad if each.grad is not None else torch.zeros_like(each) for each in parameters]
        message = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, piece in zip(
            parameters, torch.split(message, [each.numel() for each in gradients]), strict=True
        ):
            parameter.grad = piece.view_as(parameter)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process. Every process has to call it."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.sum(torch.tensor(float(flag), device=device)))

    def _count(self, rows: Tensor) -> Tensor:
        return self.sum(torch.tensor(float(len(rows)), device=rows.device))


ALONE = ProcessGroup()


def is_first() -> bool:
    """Whether this is the first process, or the only one, before it has joined the group."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join(device: torch.device) -> Iterator[tuple[ProcessGroup, torch.device]]:
    """The group that torchrun puts this process into, and this process's own device.

    Without torchrun the group has this process alone. Messages go by NCCL between GPUs and by Gloo between CPUs.

    All processes leave the group together: the context ends only when each of them has reached its end. Otherwise a
    process that closes its connections early makes the message threads of another one fail, which aborts it (SIGABRT).
    After an error there is no waiting, because the others may never get here.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size()), device
        dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
    finally:
        dist.destroy_process_group()
