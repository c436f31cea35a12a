"""A small residual convolutional network: two halvings of the image, then residual blocks.

A block is h + conv2(relu(conv1(relu(h)))) (He et al. 2016, Identity Mappings in Deep Residual Networks). conv2 starts
at zero, so every block starts as the identity and needs no normalisation (Zhang et al. 2019, Fixup). Sides that are no
multiple of four are padded before the encoder and cropped after the decoder. N is the batch, L the latent dimension, C
the channels at half size; at a quarter there are 2 C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import VAE
from training.networks import vjp


@dataclass(frozen=True, slots=True)
class Architecture:
    """`channels` is C, `blocks` how many residual blocks each side has."""

    image_shape: tuple[int, ...]
    channels: int
    blocks: int
    latent_dim: int


class Block(vjp.Block):
    """[N, 2 C, h, w] -> the same."""

    def __init__(self, channels: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.first = _started(nn.Conv2d(channels, channels, 3, padding=1), generator)
        self.second = _started(nn.Conv2d(channels, channels, 3, padding=1), generator)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor) -> Tensor:
        """The input plus the output of two layers."""
        added: Tensor = self.second(F.relu(self.first(F.relu(h))))
        return h + added

    def forward_vjp(self, h: Tensor) -> vjp.Differentiated:
        """The block and its backward pass."""
        return vjp.residual([nn.ReLU(), self.first, nn.ReLU(), self.second], h)


class Conv(VAE):
    """Encoder and decoder of two strided convolutions and `blocks` residual blocks each."""

    def __init__(self, architecture: Architecture, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        height, width, *rest = architecture.image_shape
        colours, channels = rest[0] if rest else 1, architecture.channels
        quarter = (2 * channels, -(-height // 4), -(-width // 4))
        self.padding = (0, 4 * quarter[2] - width, 0, 4 * quarter[1] - height)
        self.encoder = nn.Sequential(
            _started(nn.Conv2d(colours, channels, 4, stride=2, padding=1), generator),
            nn.ReLU(),
            _started(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1), generator),
            *(Block(2 * channels, generator) for _ in range(architecture.blocks)),
            nn.ReLU(),
            nn.Flatten(),
            _started(nn.Linear(quarter[0] * quarter[1] * quarter[2], 2 * architecture.latent_dim), generator),
        )
        self.decoder = nn.Sequential(
            _started(nn.Linear(architecture.latent_dim, quarter[0] * quarter[1] * quarter[2]), generator),
            nn.Unflatten(1, quarter),
            *(Block(2 * channels, generator) for _ in range(architecture.blocks)),
            nn.ReLU(),
            _started(nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1), generator),
            nn.ReLU(),
            _started(nn.ConvTranspose2d(channels, colours, 4, stride=2, padding=1), generator),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x; see `VAE.encode`."""
        channels_first = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)  # [N, 1 or 3, H, W]
        padded = F.pad(channels_first, self.padding, value=-1.0)
        mu, logvar = self.encoder(padded).chunk(2, dim=1)  # [N, L] each
        return mu, logvar

    def activation(self, z: Tensor) -> Tensor:
        """The decoder of z before its tanh; see `VAE.activation`."""
        height, width, *colour = self.architecture.image_shape
        activation: Tensor = self.decoder(z)[:, :, :height, :width]  # [N, 1 or 3, H, W]
        return activation.permute(0, 2, 3, 1) if colour else activation.squeeze(1)

    def activation_vjp(self, z: Tensor) -> vjp.Differentiated:
        """The decoder and its backward pass; see `VAE.activation_vjp`."""
        height, width, *colour = self.architecture.image_shape
        padded, pull = vjp.through(self.decoder, z)
        activation = padded[:, :, :height, :width]

        def pull_cropped(gradient: Tensor) -> Tensor:
            channels_first = gradient.permute(0, 3, 1, 2) if colour else gradient.unsqueeze(1)
            return pull(F.pad(channels_first, self.padding))

        return activation.permute(0, 2, 3, 1) if colour else activation.squeeze(1), pull_cropped


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def _started(layer: Layer, generator: torch.Generator | None) -> Layer:
    """The layer with Glorot-uniform weights and zero biases."""
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
