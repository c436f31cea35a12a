"""The judge: what a model scores, on images it was not trained on.

Figures are means over images. Noise comes from a generator of its own with a fixed seed, so that judging never moves
the training's random numbers, and the same model always scores the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from training.model import VAE, to_signal
from training.objective import distortion, rate, reparametrise

EVALUATION_SEED: Final = 0
# A latent is in use when its mu varies from image to image by more than this (Burda et al. 2016, section 5.2).
ACTIVE_VARIANCE: Final = 0.01
CHUNK: Final = 1_000  # images at a time: a few megabytes, whatever the set's size


class Autoencoder(Protocol):
    """What is needed to judge: `training.model.VAE`, and `LinearVAE` below."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of x [N, *image_shape] in [-1, 1]: mu and logvar [N, L]."""

    def decode(self, z: Tensor) -> Tensor:
        """The mean image x_hat of z [N, L]: [N, *image_shape]."""


@dataclass(frozen=True, slots=True)
class Score:
    """The objective's two terms, each the mean over images, in nats."""

    distortion: float
    rate: float

    @property
    def total(self) -> float:
        """The loss: the negative evidence lower bound but for a constant."""
        return self.distortion + self.rate


@torch.no_grad()
def score(model: Autoencoder, images: Tensor) -> Score:
    """The objective on uint8 images [N, *image_shape], with one draw from each posterior."""
    noise = torch.Generator().manual_seed(EVALUATION_SEED)
    terms = torch.zeros(2, dtype=torch.float64)
    for chunk in torch.split(images, CHUNK):
        x = to_signal(chunk)  # [n, *image_shape]
        mu, logvar = model.encode(x)  # [n, L]
        x_hat = model.decode(reparametrise(mu, logvar, noise))  # [n, *image_shape]
        terms += torch.stack([distortion(x_hat, x).sum(), rate(mu, logvar).sum()]).cpu()
    return Score(*(terms / len(images)).tolist())


@torch.no_grad()
def evaluate(model: VAE, images: Tensor, training_images: Tensor) -> dict[str, float]:
    """Everything a bundle says of its quality, on uint8 images [N, *image_shape] that it was not trained on.

    `distortion`, `rate`, `total` in nats; `mse` and `psnr` (dB, of that mean) of the images decoded from mu, on
    pixels in [0, 1] and before rounding to grey levels; `active_units`, how many latents are in use; `linear_total`,
    what the best linear model of as many latents, fitted on the training images, scores.
    """
    terms = score(model, images)
    chunks = [to_signal(chunk) for chunk in torch.split(images, CHUNK)]
    mus = [model.encode(x)[0] for x in chunks]
    squares = sum(distortion(model.decode(mu), x).sum().item() for mu, x in zip(mus, chunks, strict=True))
    mse = squares / images.numel() / 4  # [-1, 1] is twice as wide as [0, 1]
    figures = {
        "distortion": terms.distortion,
        "rate": terms.rate,
        "total": terms.total,
        "mse": mse,
        "psnr": -10 * math.log10(mse),
        "active_units": float((torch.cat(mus).var(dim=0) > ACTIVE_VARIANCE).sum()),
        "linear_total": LinearVAE.fit(training_images, model.architecture.latent_dim).score(images).total,
    }
    return {name: round(value, 5) for name, value in figures.items()}  # what sums of float32 can tell


@dataclass(frozen=True, slots=True)
class LinearVAE:
    """The best linear model under this objective, in closed form: an oracle to hold loss code and networks against.

    A VAE whose encoder and decoder are linear is at its optimum probabilistic PCA (Tipping & Bishop 1999; Lucas et
    al. 2019), here with the objective's fixed variance of 1/2. With the eigenvalues l of the images' covariance, k of
    the largest, those that exceed 1/2, as latents, and U_k their eigenvectors:

        x_hat = mean + U_k (l_k - 1/2)^(1/2) z,    q(z|x) = N(l_k^-1 (l_k - 1/2)^(1/2) U_k' (x - mean), 1 / (2 l_k))
        total = sum of the other l + 1/2 sum over the k (1 + log 2 l_k)

    Fitted on MNIST's 60,000 training images it scores 109.11 on them and 107.85 on the 10,000 test images.
    """

    mean: Tensor  # [D]
    weight: Tensor  # [D, k]
    variance: Tensor  # [k], the eigenvalues l_k
    image_shape: tuple[int, ...]
    total: float  # on the images it was fitted on

    @classmethod
    def fit(cls, images: Tensor, latent_dim: int) -> LinearVAE:
        """The optimum for uint8 images [N, *image_shape], of at most `latent_dim` latents, in float64."""
        chunks = [chunk.cpu() for chunk in torch.split(images.flatten(1), CHUNK)]
        mean = sum(to_signal(chunk).double().sum(0) for chunk in chunks) / torch.tensor(len(images))  # [D]
        scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)  # [D, D]
        for chunk in chunks:
            centred = to_signal(chunk).double() - mean  # [n, D]
            scatter += centred.T @ centred
        values, vectors = torch.linalg.eigh(scatter / len(images))  # rising order
        kept = values > 0.5
        kept[:-latent_dim] = False
        variance = values[kept]
        total = values[~kept].sum() + 0.5 * (1 + (2 * variance).log()).sum()
        return cls(mean, vectors[:, kept] * (variance - 0.5).sqrt(), variance, tuple(images.shape[1:]), total.item())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The exact posterior of x [N, *image_shape] in [-1, 1]: mu and logvar, float64 [N, k]."""
        mu = (x.flatten(1).double() - self.mean) @ self.weight / self.variance  # [N, k]
        return mu, (0.5 / self.variance).log().expand_as(mu)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of z [N, k]: float64 [N, *image_shape]."""
        return (self.mean + z @ self.weight.T).view(-1, *self.image_shape)

    def score(self, images: Tensor) -> Score:
        """The objective on uint8 images [N, *image_shape], the distortion's mean over the noise in closed form."""
        terms = torch.zeros(2, dtype=torch.float64)
        for chunk in torch.split(images.cpu(), CHUNK):
            x = to_signal(chunk).double()  # [n, *image_shape]
            mu, logvar = self.encode(x)  # [n, k]
            noise = logvar.exp() @ self.weight.square().sum(0)  # [n]; the columns of weight are orthogonal
            terms += torch.stack([(distortion(self.decode(mu), x) + noise).sum(), rate(mu, logvar).sum()])
        return Score(*(terms / len(images)).tolist())
