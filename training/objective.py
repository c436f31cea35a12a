"""The objective: distortion + rate, the negative evidence lower bound, or a tighter bound of several draws.

For one image x of D pixels in [-1, 1] and q(z|x) = N(mu, diag exp(logvar)), p(z) = N(0, I):

    -ELBO = E_q[-log p(x|z)] + KL(q(z|x) || p(z)) = distortion + rate

Sums are over pixels and latents, never over images: figures are per image, in nats, and do not depend on the size of a
batch. With x_hat(z) = tanh(a(z)), the decoder's mean image, the likelihoods p(x|z) are:

- "squared-error", the notebook's: N(x_hat, I/2). Its distortion is the squared error: (D/2) log pi is left out.
- "calibrated": N(x_hat, s^2 I), s^2 the mean squared error, which is the variance of highest likelihood (Rybkin et al.
  2021, Simple and Effective VAE Training with Calibrated Decoders, https://arxiv.org/abs/2006.13202, equation 5).
- "bernoulli": Bernoulli((1 + x_hat) / 2) for pixels that are black or white. They are drawn in every step, with the
  grey level as the probability of white (Salakhutdinov & Murray 2008).

Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014 (https://arxiv.org/abs/1312.6114), equations 3 and 10,
appendix B. The bound of several draws: Burda et al., Importance Weighted Autoencoders, 2016 (https://arxiv.org/abs/1509.00519),
equation 8, with the gradient of Tucker et al. 2019, Doubly Reparameterized Gradient Estimators
(https://arxiv.org/abs/1810.04152), equation 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from training.model import VAE, to_signal
from training.process_group import ALONE, ProcessGroup
from training.recipe import Recipe

# The square of one grey level in the signal, which is 2 wide. A smaller variance has no meaning.
LEAST_VARIANCE: Final = (2 / 255) ** 2


def distortion(x_hat: Tensor, x: Tensor) -> Tensor:
    """Squared error of each image, summed over its pixels: sum_d (x_hat_d - x_d)^2.

    Both float32 [N, ...] in [-1, 1]; the result is float32 [N], in nats (for a decoder variance of 1/2).
    """
    return F.mse_loss(x_hat, x, reduction="none").flatten(1).sum(1)


def gaussian_distortion(squared_error: Tensor, variance: Tensor, pixels: int) -> Tensor:
    """-log N(x; x_hat, variance I) of each image, from its squared error [N] over `pixels` values: [N], in nats.

    It belongs to a density, so it may be negative. `variance` is one number for all images.
    """
    return 0.5 * (squared_error / variance + pixels * (2 * math.pi * variance).log())


def bernoulli_distortion(activation: Tensor, x: Tensor) -> Tensor:
    """-log Bernoulli(x; sigmoid(2 activation)) of each image, where x is -1 or 1: [N], in nats.

    Both [N, ...]: sum_d log(1 + exp(-2 a_d x_d)).
    """
    return F.softplus(-2 * activation * x).flatten(1).sum(1)


def distortion_gradient(objective: str, activation: Tensor, x: Tensor, variance: float | None = None) -> Tensor:
    """The gradient of each image's distortion by the decoder's activation, of its shape.

    `x` is in [-1, 1] and broadcasts against `activation`. Only "calibrated" has a `variance`. For "bernoulli" a grey x
    stands for pixels that are white with its probability: the gradient is the mean over them.
    """
    x_hat = torch.tanh(activation)
    if objective == "bernoulli":
        return x_hat - x
    factor = 2.0 if variance is None else 1 / variance
    return factor * (x_hat - x) * (1 - x_hat * x_hat)


def rate(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) of each image: 1/2 sum_l (mu_l^2 + exp(logvar_l) - 1 - logvar_l).

    Both float32 [N, L], `logvar` the log of the variance; the result is float32 [N], in nats.
    """
    return rates(mu, logvar).sum(1)


def rates(mu: Tensor, logvar: Tensor) -> Tensor:
    """Each latent's part of the rate, [N, L]."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def reparametrise(mu: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from the posterior of each image: z = mu + exp(logvar / 2) * eps, with its own eps ~ N(0, I).

    Both are float32 [N, L]. The noise is drawn on the generator's device and moved to that of `mu`.
    """
    return _draw(mu, logvar, _normal(mu.shape, generator).to(mu.device))


def binarise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Black and white pixels, float32 -1 or 1, each white with its grey level (uint8 0 to 255) as probability."""
    uniform = torch.rand(images.shape, generator=generator, device=generator.device).to(images.device)
    return (uniform * 255 < images).to(torch.float32).mul_(2).sub_(1)


def log_weights(mu: Tensor, logvar: Tensor, z: Tensor, distortions: Tensor) -> Tensor:
    """Log of p(x|z) p(z) / q(z|x), [k, N], for draws z [k, N, L] from the posterior [N, L].

    `distortions`, [k, N], are those of the draws.
    """
    log_prior_ratio = 0.5 * ((z - mu).square() / logvar.exp() + logvar - z.square()).sum(2)
    return log_prior_ratio - distortions


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a batch: `loss`, one number to be minimised, and distortion and rate of each image, [N].

    Where several processes share a batch, `loss` is this process's part of the sum.
    """

    loss: Tensor
    distortion: Tensor
    rate: Tensor


class Objective:
    """A recipe's objective."""

    def __init__(self, recipe: Recipe, group: ProcessGroup = ALONE) -> None:
        self._recipe = recipe
        self._group = group

    def signal(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The network's input for uint8 images [N, *image_shape]: float32 of the same shape in [-1, 1]."""
        return binarise(images, generator) if self._recipe.objective == "bernoulli" else to_signal(images)

    def terms(self, model: VAE, x: Tensor, noise: Tensor, progress: float | Tensor) -> Terms:
        """The objective on x, this process's part of a batch.

        `x` is float32 [N, *image_shape] in [-1, 1], `noise` standard normal, [k, N, L]; `progress`, 0 to 1, is the
        share of all steps that are done, as a number or a tensor [].
        """
        mu, logvar = model.encode(x)  # [N, L]
        mu, logvar = mu.float(), logvar.float()
        if len(noise) > 1:
            return self._importance_weighted(model, x, mu, logvar, noise)
        distortions = self._distortion(model.activation(_draw(mu, logvar, noise[0])), x)  # [N]
        per_latent = rates(mu, logvar)  # [N, L]
        per_image = per_latent.sum(1)  # [N]
        beta = self._beta(progress)
        if self._recipe.free_bits:
            # A latent adds to the loss only while its mean rate over the whole batch exceeds the free bits (Kingma et
            # al. 2016, Improved Variational Inference with Inverse Autoregressive Flow, equation 15).
            paid = self._group.mean(per_latent.detach()) > self._recipe.free_bits  # [L]
            loss = self._group.part(distortions + beta * (per_latent * paid).sum(1))
            loss = loss + beta * self._recipe.free_bits * (~paid).sum() / self._group.size
        else:
            loss = self._group.part(distortions + beta * per_image)
        return Terms(loss, distortions.detach(), per_image.detach())

    def _distortion(self, activation: Tensor, x: Tensor) -> Tensor:
        activation = activation.float()
        if self._recipe.objective == "bernoulli":
            return bernoulli_distortion(activation, x)
        squared_error = distortion(torch.tanh(activation), x)
        if self._recipe.objective == "squared-error":
            return squared_error
        pixels = x[0].numel()
        # At the variance of highest likelihood the gradient by the variance is 0, so it can be a constant.
        variance = (self._group.mean(squared_error.detach()) / pixels).clamp(min=LEAST_VARIANCE)
        return gaussian_distortion(squared_error, variance, pixels)

    def _beta(self, progress: float | Tensor) -> float | Tensor:
        if not self._recipe.kl_warmup:
            return self._recipe.beta
        share = progress / self._recipe.kl_warmup
        return self._recipe.beta * (share.clamp(max=1.0) if isinstance(share, Tensor) else min(1.0, share))

    def _importance_weighted(self, model: VAE, x: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor) -> Terms:
        """-log mean_k w_k. The noise of the encoder's gradient does not grow with k."""
        z = _draw(mu, logvar, noise)  # [k, N, L]
        activation = model.activation(z.flatten(0, 1))  # [k N, *image_shape]
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        distortions = self._distortion(activation, repeated).view(len(z), len(x))  # [k, N]
        # Gradients reach the encoder through z alone. There they are weighted a second time.
        log_w = log_weights(mu.detach(), logvar.detach(), z, distortions)  # [k, N]
        weights = log_w.detach().softmax(0)
        if z.requires_grad:
            z.register_hook(lambda gradient: gradient * weights.unsqueeze(2))  # type: ignore[no-untyped-call]
        loss = self._group.part(-(weights * log_w).sum(0))
        return Terms(loss, distortions.detach().mean(0), rate(mu, logvar).detach())


def _draw(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    return mu + torch.exp(0.5 * logvar) * noise


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)
