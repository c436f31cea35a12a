"""A residual multilayer perceptron: pre-norm blocks between an input and an output layer, on each side.

A block is h + W2 gelu(W1 norm(h)) (He et al. 2016, Identity Mappings in Deep Residual Networks, with LayerNorm before
the layers as in Xiong et al. 2020). W2 starts at zero, so every block starts as the identity (Zhang et al. 2019,
Fixup). N is the batch, L the latent dimension, H the width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import VAE
from training.networks import vjp


@dataclass(frozen=True, slots=True)
class Architecture:
    """`hidden` is the width of every layer, `blocks` how many residual blocks each side has."""

    image_shape: tuple[int, ...]
    hidden: int
    blocks: int
    latent_dim: int


class Block(vjp.Block):
    """[N, H] -> [N, H]."""

    def __init__(self, hidden: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.first = _linear(hidden, hidden, generator)
        self.second = _linear(hidden, hidden, generator)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor) -> Tensor:
        """The input plus the output of two layers."""
        added: Tensor = self.second(F.gelu(self.first(self.norm(h))))
        return h + added

    def forward_vjp(self, h: Tensor) -> vjp.Differentiated:
        """The block and its backward pass."""
        return vjp.residual([self.norm, self.first, nn.GELU(), self.second], h)


class ResMLP(VAE):
    """Encoder and decoder of `blocks` residual blocks each. First weights are Glorot-uniform, except each W2."""

    def __init__(self, architecture: Architecture, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        pixels, hidden, latent_dim = prod(architecture.image_shape), architecture.hidden, architecture.latent_dim
        self.encoder = nn.Sequential(
            _linear(pixels, hidden, generator),
            *(Block(hidden, generator) for _ in range(architecture.blocks)),
            nn.LayerNorm(hidden),
            _linear(hidden, 2 * latent_dim, generator),  # mu and logvar side by side
        )
        self.decoder = nn.Sequential(
            _linear(latent_dim, hidden, generator),
            *(Block(hidden, generator) for _ in range(architecture.blocks)),
            nn.LayerNorm(hidden),
            _linear(hidden, pixels, generator),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x; see `VAE.encode`."""
        mu, logvar = self.encoder(x.flatten(1)).chunk(2, dim=1)  # [N, L] each
        return mu, logvar

    def activation(self, z: Tensor) -> Tensor:
        """The decoder of z before its tanh; see `VAE.activation`."""
        activation: Tensor = self.decoder(z)  # [N, pixels]
        return activation.view(-1, *self.architecture.image_shape)

    def activation_vjp(self, z: Tensor) -> vjp.Differentiated:
        """The decoder and its backward pass; see `VAE.activation_vjp`."""
        activation, pull = vjp.through(self.decoder, z)
        return activation.view(-1, *self.architecture.image_shape), lambda gradient: pull(gradient.flatten(1))


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
