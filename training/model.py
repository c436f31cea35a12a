"""The interface of every network, and the conversion between grey levels and the networks' signal.

The networks are in `training/networks/`, one file each. N is the batch, L the latent dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn


def to_signal(image: Tensor) -> Tensor:
    """Grey levels, uint8 0 to 255 of any shape, as the networks' signal: float32 in [-1, 1], same shape."""
    return image.to(torch.float32).mul_(2 / 255).sub_(1)


def to_image(x_hat: Tensor) -> Tensor:
    """A signal, float32 of any shape, as grey levels: uint8, rounded, clamped to 0 to 255, same shape."""
    return ((x_hat + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class Architecture(Protocol):
    """The sizes of a network, for each kind a dataclass. Networks of equal architecture can exchange weights."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width) for grey or (height, width, 3) for colour images."""

    @property
    def latent_dim(self) -> int:
        """L, the length of z."""


class VAE(nn.Module):
    """An encoder and a decoder. Each network defines `encode`, `activation` and `activation_vjp`."""

    architecture: Architecture
    refinement_steps = 0  # of each posterior; see `training.refinement`

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x, float32 [N, *image_shape] in [-1, 1]: mu and logvar, float32 [N, L]."""
        raise NotImplementedError

    def activation(self, z: Tensor) -> Tensor:
        """The decoder of z, float32 [N, L], up to its last layer, float32 [N, *image_shape], unbounded.

        The mean image is its tanh. On [0, 1] that is (1 + tanh a) / 2 = sigmoid(2 a), so for a pixel that is black or
        white, the log-odds of white are twice the activation.
        """
        raise NotImplementedError

    def activation_vjp(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`activation(z)` and its backward pass, in operators that an ONNX graph can hold.

        The backward pass goes from the gradient of a number by the activation, of its shape, to that by z, [N, L].
        """
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """The mean image x_hat of z, float32 [N, L]: float32 [N, *image_shape] in [-1, 1]."""
        return torch.tanh(self.activation(z))
