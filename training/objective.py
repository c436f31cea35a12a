"""What is learned: distortion + rate, the negative evidence lower bound of a Gaussian decoder of variance 1/2.

For one image x of D pixels in [-1, 1] and q(z|x) = N(mu, diag exp(logvar)), p(z) = N(0, I), p(x|z) = N(x_hat(z), I/2):

    -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || p(z)) = distortion + rate + (D/2) log pi

so the notebook's "summed squared error + KL" is the bound in nats, but for a constant. Sums run over pixels and
latents, never over images: figures are per image, and do not change with the size of a batch.

Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014 (https://arxiv.org/abs/1312.6114), equations 3 and 10,
appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distortion(x_hat: Tensor, x: Tensor) -> Tensor:
    """Squared error of each image, summed over its pixels: sum_d (x_hat_d - x_d)^2.

    Both float32 [N, ...] in [-1, 1]; the result is float32 [N], in nats (for a decoder variance of 1/2).
    """
    return F.mse_loss(x_hat, x, reduction="none").flatten(1).sum(1)


def rate(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) of each image: 1/2 sum_l (mu_l^2 + exp(logvar_l) - 1 - logvar_l).

    Both float32 [N, L], `logvar` the log of the variance; the result is float32 [N], in nats.
    """
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)


def reparametrise(mu: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from the posterior of each image: z = mu + exp(logvar / 2) * eps, eps ~ N(0, I) for every image anew.

    Both float32 [N, L]; the noise is drawn where `generator` lives and moved to where `mu` is.
    """
    eps = torch.randn(mu.shape, generator=generator, device=generator.device).to(mu.device)  # [N, L]
    return mu + torch.exp(0.5 * logvar) * eps
