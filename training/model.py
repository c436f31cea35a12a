"""The networks, and the one place where grey levels become the signal they work on and back.

`VAE` is the notebook's multilayer perceptron: 784-400-20-400-784, ReLU, tanh (Kingma & Welling 2014, appendix C.2,
with one head for mu and logvar together). N is the batch, L the latent dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def to_signal(image: Tensor) -> Tensor:
    """Grey levels, uint8 0 to 255 of any shape, as the networks' signal: float32 in [-1, 1], same shape."""
    return image.to(torch.float32).mul_(2 / 255).sub_(1)


def to_image(x_hat: Tensor) -> Tensor:
    """A signal, float32 of any shape, as grey levels: uint8, rounded, clamped to 0 to 255, same shape."""
    return ((x_hat + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a network is: two with equal architectures can exchange weights."""

    image_shape: tuple[int, ...]
    hidden: int
    latent_dim: int


class VAE(nn.Module):
    """Encoder and decoder with one hidden layer each.

    Weights start Glorot-uniform and biases at zero, as in the notebook (TF-Slim's defaults), drawn from `generator`.
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
        # The notebook has two heads of its own; together they must start as wide as each would alone.
        nn.init.xavier_uniform_(self.posterior.weight[: architecture.latent_dim], generator=generator)
        nn.init.xavier_uniform_(self.posterior.weight[architecture.latent_dim :], generator=generator)
        nn.init.xavier_uniform_(self.decoder_hidden.weight, generator=generator)
        nn.init.xavier_uniform_(self.pixels.weight, generator=generator)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x, float32 [N, *image_shape] in [-1, 1]: mu and logvar, float32 [N, L]."""
        hidden = F.relu(self.encoder_hidden(x.flatten(1)))  # [N, hidden]
        mu, logvar = self.posterior(hidden).chunk(2, dim=1)  # [N, L] each
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """The mean image x_hat of z, float32 [N, L]: float32 [N, *image_shape] in [-1, 1]."""
        hidden = F.relu(self.decoder_hidden(z))  # [N, hidden]
        x_hat = torch.tanh(self.pixels(hidden))  # [N, pixels]
        return x_hat.view(-1, *self.architecture.image_shape)
