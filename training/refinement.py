"""A refined posterior: the encoder's, moved some steps down the gradient of the objective, inside the encoder's graph.

An encoder computes the posterior of any image at once, and for few images is that the best one of its family (Cremer et
al. 2018, Inference Suboptimality in Variational Autoencoders, https://arxiv.org/abs/1801.03558). Steps for each image
win a part of the difference back (Kim et al. 2018, Semi-Amortized Variational Autoencoders,
https://arxiv.org/abs/1802.02550; Marino et al. 2018, Iterative Amortized Inference, https://arxiv.org/abs/1807.09356).
With g the gradient of the image's distortion + beta rate, and eta the step size, a step is

    mu <- mu - eta exp(logvar) g_mu        logvar <- logvar - clip(eta g_logvar, -1/2, 1/2)

exp(logvar) g_mu is the natural gradient by mu (Amari 1998): the inverse of the Fisher information times the gradient.

The distortion's mean over the posterior is taken over S fixed draws, z = mu + exp(logvar / 2) eps, where eps is a
vector of random signs or its opposite. In each latent the draws of a step have exactly the mean and the variance of
N(0, 1), which so few normal draws have not. Each step has its own.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from training.model import VAE
from training.networks.vjp import Differentiated
from training.objective import distortion_gradient
from training.recipe import Recipe

# The most that a step changes a logvar.
LOGVAR_LIMIT: Final = 0.5


class Refined(VAE):
    """A trained model whose encoder refines its posteriors as the recipe says. The decoder is the same.

    `variance` is that of the calibrated objective's Gaussian, for pixels in [-1, 1]; the other objectives have none.
    The draws are those of the recipe's seed. Free bits are not part of the gradient.
    """

    draws: Tensor  # eps, [steps, S, L]

    def __init__(self, model: VAE, recipe: Recipe, variance: float | None = None) -> None:
        super().__init__()
        self.architecture = model.architecture
        self.refinement_steps = recipe.refinement_steps
        self.model = model
        self._recipe = recipe
        self._variance = variance
        shape = (recipe.refinement_steps, recipe.refinement_draws // 2, recipe.latent_dim)
        generator = torch.Generator().manual_seed((recipe.seed + 3) % 2**63)
        signs = torch.randint(2, shape, generator=generator).float() * 2 - 1
        self.register_buffer("draws", torch.cat([signs, -signs], 1), persistent=False)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The refined posterior of x; see `VAE.encode`."""
        mu, logvar = self.model.encode(x)
        for eps in self.draws.unbind():
            mu, logvar = self._step(x, mu, logvar, eps.unsqueeze(1))
        return mu, logvar

    def activation(self, z: Tensor) -> Tensor:
        """The decoder of z before its tanh; see `VAE.activation`."""
        return self.model.activation(z)

    def activation_vjp(self, z: Tensor) -> Differentiated:
        """The decoder and its backward pass; see `VAE.activation_vjp`."""
        return self.model.activation_vjp(z)

    def _step(self, x: Tensor, mu: Tensor, logvar: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior [N, L] after one step with the draws eps, [S, 1, L]."""
        by_mu, by_logvar = self.gradient(x, mu, logvar, eps)
        change = (self._recipe.refinement_step_size * by_logvar).clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)
        return mu - self._recipe.refinement_step_size * logvar.exp() * by_mu, logvar - change

    def gradient(self, x: Tensor, mu: Tensor, logvar: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each image's distortion + beta rate by mu and logvar, [N, L] each.

        x is [N, *image_shape]. The distortion is the mean over the draws eps, [S, 1, L].
        """
        std = (0.5 * logvar).exp()
        z = mu + std * eps  # [S, N, L]
        activation, pull = self.model.activation_vjp(z.flatten(0, 1))  # [S N, *image_shape]
        by_draw = activation.view(len(eps), -1, *x.shape[1:])  # [S, N, *image_shape]
        by_activation = distortion_gradient(self._recipe.objective, by_draw, x, self._variance)
        by_z = pull(by_activation.flatten(0, 1)).view(len(eps), -1, mu.shape[1])  # [S, N, L]
        beta = self._recipe.beta
        by_mu = by_z.mean(0) + beta * mu
        by_logvar = 0.5 * (std * (by_z * eps).mean(0) + beta * (std * std - 1))
        return by_mu, by_logvar
