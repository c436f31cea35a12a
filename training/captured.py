"""Steps of the training as CUDA graphs.

A step of a small network has a hundred kernels of a few microseconds each. Python takes longer to launch them one by
one than the GPU takes to run them. A CUDA graph is recorded once and then launched as a whole
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

WARM_UP: Final = 3  # calls that are not captured, as PyTorch's documentation has it

Shapes = tuple[torch.Size, ...]


class Captured:
    """A function of tensors on a GPU, as a CUDA graph for each combination of their shapes.

    The function changes other tensors in place and returns nothing. It never waits for the GPU, and draws random
    numbers from `generator` alone. Its first calls run as they are, because libraries and the optimiser allocate what
    they need at their first use. Then it is captured. A replay draws the numbers that a call would draw.
    """

    def __init__(self, function: Callable[..., None], generator: torch.Generator) -> None:
        self._function = function
        self._generator = generator
        # A graph cannot be captured on the default stream.
        self._stream = torch.cuda.Stream(generator.device)  # type: ignore[no-untyped-call]
        self._calls: dict[Shapes, int] = {}
        self._graphs: dict[Shapes, tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}

    def __call__(self, *arguments: Tensor) -> None:
        """Call the function, as it is or as a graph, with float or integer tensors on the GPU."""
        shapes = tuple(each.shape for each in arguments)
        if (calls := self._calls.get(shapes, 0)) < WARM_UP:
            self._calls[shapes] = calls + 1
            self._run(arguments)
            return
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(arguments)
        graph, inputs = self._graphs[shapes]
        for fixed, argument in zip(inputs, arguments, strict=True):
            fixed.copy_(argument)
        graph.replay()

    def _run(self, arguments: tuple[Tensor, ...]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._function(*arguments)
        torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self, arguments: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """The graph, which has not run yet, and the tensors that it reads as its arguments."""
        inputs = [each.clone() for each in arguments]
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # A graph of an earlier run may be garbage by now. Its end during the capture would make the capture invalid.
        gc.collect()
        gc.disable()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._function(*inputs)
        finally:
            gc.enable()
        return graph, inputs
