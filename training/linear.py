"""The best linear model under the notebook's objective, in closed form: a reference for the loss and for networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training import parallel
from training.model import to_signal
from training.objective import distortion, rate
from training.score import CHUNK, Score


@dataclass(frozen=True, slots=True)
class LinearVAE:
    """The optimum of the squared-error objective among linear models.

    The optimum of a VAE with a linear encoder and a linear decoder is probabilistic PCA (Tipping & Bishop 1999; Lucas
    et al. 2019), here with that objective's fixed variance of 1/2. Let l be the eigenvalues of the images' covariance.
    The latents belong to the k largest of those above 1/2, and U_k are their eigenvectors:

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

        def scatter_of(chunk: Tensor) -> Tensor:
            centred = to_signal(chunk).double() - mean  # [n, D]
            return centred.T @ centred

        for one in parallel.ordered(scatter_of, chunks):
            scatter += one
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
