"""The decoders' backward pass, layer by layer, in operators that an ONNX graph can hold.

Each function takes a layer's input h, [M, ...], and gives the layer's output and a `Pull`: from the gradient of a
number by the output to its gradient by h, the vector-Jacobian product (Griewank & Walther 2008, Evaluating Derivatives,
chapter 3). PyTorch's own backward pass cannot be exported.

Sums over features are products with a constant matrix. Of these onnxruntime takes the sums of a row in the same order
in every batch. Its reductions do so only where rows are aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pull = Callable[[Tensor], Tensor]
Differentiated = tuple[Tensor, Pull]

_SQRT_2: Final = math.sqrt(2)
_SQRT_2_PI: Final = math.sqrt(2 * math.pi)


class Block(nn.Module):
    """A part of a network with a backward pass of its own."""

    def forward_vjp(self, h: Tensor) -> Differentiated:
        """`forward(h)` and its backward pass."""
        raise NotImplementedError


def through(layers: Iterable[nn.Module], h: Tensor) -> Differentiated:
    """One layer after another. Raises NotImplementedError for a layer that no decoder has."""
    pulls: list[Pull] = []
    for layer in layers:
        h, pull = _layer(layer, h)
        pulls.append(pull)

    def pull_all(gradient: Tensor) -> Tensor:
        for pull in reversed(pulls):
            gradient = pull(gradient)
        return gradient

    return h, pull_all


def _layer(layer: nn.Module, h: Tensor) -> Differentiated:
    match layer:
        case nn.Linear():
            return layer(h), lambda gradient: gradient @ layer.weight
        case nn.ReLU():
            return relu(h)
        case nn.GELU():
            return gelu(h)
        case nn.LayerNorm():
            return layer_norm(layer, h)
        case nn.Conv2d(padding=tuple(padding)):  # of stride 1
            return layer(h), lambda gradient: F.conv_transpose2d(gradient, layer.weight, padding=padding)
        case nn.ConvTranspose2d(stride=stride, padding=tuple(padding)):
            return layer(h), lambda gradient: F.conv2d(gradient, layer.weight, stride=stride, padding=padding)
        case nn.Unflatten():
            return layer(h), lambda gradient: gradient.flatten(1)
        case Block():
            return layer.forward_vjp(h)
        case _:
            raise NotImplementedError(f"{type(layer).__name__} has no backward pass here.")


def relu(h: Tensor) -> Differentiated:
    """The larger of h and 0, of any shape. At 0 the gradient is 0, as in PyTorch."""
    return F.relu(h), lambda gradient: gradient * (h > 0).to(h.dtype)


def gelu(h: Tensor) -> Differentiated:
    """The product h Phi(h), of any shape, with Phi the distribution function of N(0, 1)."""
    below = 0.5 * (1 + torch.erf(h / _SQRT_2))

    def pull(gradient: Tensor) -> Tensor:
        return gradient * (below + h * torch.exp(-0.5 * h * h) / _SQRT_2_PI)

    return h * below, pull


def layer_norm(layer: nn.LayerNorm, h: Tensor) -> Differentiated:
    """LayerNorm over the features of h, [M, H] (Ba et al. 2016, Layer Normalization, equation 3)."""
    average = torch.full((h.shape[1], 1), 1 / h.shape[1], dtype=h.dtype, device=h.device)
    centred = h - h @ average
    scale = 1 / torch.sqrt((centred * centred) @ average + layer.eps)  # [M, 1]
    normal = centred * scale

    def pull(gradient: Tensor) -> Tensor:
        gradient = gradient * layer.weight
        return scale * (gradient - gradient @ average - normal * ((gradient * normal) @ average))

    return normal * layer.weight + layer.bias, pull


def residual(layers: Iterable[nn.Module], h: Tensor) -> Differentiated:
    """The sum of h and what the layers make of it."""
    added, pull = through(layers, h)
    return h + added, lambda gradient: gradient + pull(gradient)
