from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from training.checkpoint import start
from training.model import to_signal
from training.objective import distortion, rate, reparametrise
from training.recipe import Recipe
from training.train import epoch


def test_rate_is_the_divergence_that_torch_distributions_computes() -> None:
    mu, logvar = torch.randn(2, 7, 20, generator=torch.Generator().manual_seed(0)).double()
    posterior = Independent(Normal(mu, torch.exp(0.5 * logvar)), 1)
    prior = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    torch.testing.assert_close(rate(mu, logvar), kl_divergence(posterior, prior))


def test_distortion_is_the_gaussian_negative_log_likelihood_but_for_its_constant() -> None:
    x_hat, x = torch.rand(2, 5, 28, 28, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    likelihood = Independent(Normal(x_hat, math.sqrt(0.5)), 2)
    log_likelihood: Tensor = likelihood.log_prob(x)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(distortion(x_hat, x), -log_likelihood - 392 * math.log(math.pi))


def test_terms_are_per_image_whatever_the_batch(images: Tensor) -> None:
    x = to_signal(images[:8])
    x_hat = x.flip(0)
    alone = torch.cat([distortion(x_hat[row : row + 1], x[row : row + 1]) for row in range(8)])
    torch.testing.assert_close(distortion(x_hat, x), alone)


def test_each_image_and_latent_gets_noise_of_its_own_with_the_posterior_s_moments() -> None:
    mu, logvar = torch.full((100_000, 2), 3.0), torch.full((100_000, 2), math.log(4.0))
    z = reparametrise(mu, logvar, torch.Generator().manual_seed(0))
    assert len(z.unique()) > 150_000  # type: ignore[no-untyped-call]
    torch.testing.assert_close(z.mean(0), torch.full((2,), 3.0), atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), torch.full((2,), 2.0), atol=0.03, rtol=0)


def test_one_batch_can_be_overfitted(small: Recipe, images: Tensor) -> None:
    recipe = small.model_copy(update={"epochs": 300, "hidden": 200, "latent_dim": 20, "batch_size": 16})
    state = start(recipe, torch.device("cpu"))
    first, *_, last = (epoch(recipe, state, images[:16], lambda _: None) for _ in range(recipe.epochs))
    assert first.total > 300
    assert last.distortion < 20
    assert last.total < 60
