"""The notebook's multilayer perceptron: 784-400-20-400-784 on MNIST, ReLU, tanh.

Kingma & Welling 2014, appendix C.2, with one head for mu and logvar together. N is the batch, L the latent dimension.
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
    """`hidden` is the width of the one hidden layer on each side."""

    image_shape: tuple[int, ...]
    hidden: int
    latent_dim: int


class MLP(VAE):
    """Encoder and decoder with one hidden layer each.

    First weights are Glorot-uniform and biases zero, as in the notebook (TF-Slim's defaults).
    """

    def __init__(self, architecture: Architecture, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        pixels = prod(architecture.image_shape)
        self.encoder_hidden = nn.Linear(pixels, architecture.hidden)
        self.posterior = nn.Linear(architecture.hidden, 2 * architecture.latent_dim)  # mu and logvar side by side
        self.decoder_hidden = nn.Linear(architecture.latent_dim, architecture.hidden)
        self.pixels = nn.Linear(architecture.hidden, pixels)
        for layer in (self.encoder_hidden, self.posterior, self.decoder_hidden, self.pixels):
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.encoder_hidden.weight, generator=generator)
        # The notebook has a layer for mu and one for logvar. Here both are one layer, so each half is drawn on its own.
        nn.init.xavier_uniform_(self.posterior.weight[: architecture.latent_dim], generator=generator)
        nn.init.xavier_uniform_(self.posterior.weight[architecture.latent_dim :], generator=generator)
        nn.init.xavier_uniform_(self.decoder_hidden.weight, generator=generator)
        nn.init.xavier_uniform_(self.pixels.weight, generator=generator)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x; see `VAE.encode`."""
        hidden = F.relu(self.encoder_hidden(x.flatten(1)))  # [N, hidden]
        mu, logvar = self.posterior(hidden).chunk(2, dim=1)  # [N, L] each
        return mu, logvar

    def activation(self, z: Tensor) -> Tensor:
        """The decoder of z before its tanh; see `VAE.activation`."""
        hidden = F.relu(self.decoder_hidden(z))  # [N, hidden]
        activation: Tensor = self.pixels(hidden)  # [N, pixels]
        return activation.view(-1, *self.architecture.image_shape)

    def activation_vjp(self, z: Tensor) -> vjp.Differentiated:
        """The decoder and its backward pass; see `VAE.activation_vjp`."""
        activation, pull = vjp.through([self.decoder_hidden, nn.ReLU(), self.pixels], z)
        return activation.view(-1, *self.architecture.image_shape), lambda gradient: pull(gradient.flatten(1))
