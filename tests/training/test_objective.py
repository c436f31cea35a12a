from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from training.checkpoint import start
from training.model import VAE, to_signal
from training.objective import (
    Objective,
    bernoulli_distortion,
    binarise,
    distortion,
    gaussian_distortion,
    log_weights,
    rate,
    reparametrise,
)
from training.recipe import Recipe
from training.train import epoch

CPU = torch.device("cpu")


class Line(VAE):
    """One pixel, one latent: x_hat = tanh(w z + b), q(z|x) = N(c x, exp(v)); enough to differentiate by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b, self.c, self.v = (torch.nn.Parameter(torch.tensor(each)) for each in (0.7, -0.2, 0.5, -0.4))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.c * x.flatten(1), self.v.expand(len(x), 1)

    def activation(self, z: Tensor) -> Tensor:
        return (self.w * z + self.b)[:, :, None]


def with_(small: Recipe, **changes: Any) -> Recipe:
    return small.model_copy(update=changes)


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
    state = start(recipe, (28, 28), CPU)
    first, *_, last = (epoch(recipe, state, images[:16], lambda _: None) for _ in range(recipe.epochs))
    assert first.total > 300
    assert last.distortion < 20
    assert last.total < 60


def test_the_gaussian_distortion_is_the_density_that_torch_distributions_computes() -> None:
    x_hat, x = torch.rand(2, 5, 6, 4, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    likelihood = Independent(Normal(x_hat, 0.3), 2)
    log_likelihood: Tensor = likelihood.log_prob(x)  # type: ignore[no-untyped-call]
    found = gaussian_distortion(distortion(x_hat, x), torch.tensor(0.09, dtype=torch.float64), 24)
    torch.testing.assert_close(found, -log_likelihood)


def test_the_calibrated_variance_is_the_mean_squared_error_which_no_other_beats(small: Recipe, images: Tensor) -> None:
    model = start(small, (28, 28), CPU).model
    x, noise = to_signal(images[:50]), torch.zeros(1, 50, small.latent_dim)
    with torch.no_grad():
        squares = distortion(model.decode(model.encode(x)[0]), x)
        found = Objective(with_(small, objective="calibrated")).terms(model, x, noise, 1.0).distortion.mean()
        mse = squares.mean() / 784
        torch.testing.assert_close(found, gaussian_distortion(squares, mse, 784).mean())
        for factor in (0.98, 1.02):
            assert gaussian_distortion(squares, factor * mse, 784).mean() > found


def test_the_bernoulli_distortion_is_that_of_twice_the_activation_as_log_odds() -> None:
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(5, 6, 4, generator=generator).double()
    x = (torch.rand(5, 6, 4, generator=generator) < 0.3).double() * 2 - 1
    likelihood = Independent(Bernoulli(logits=2 * activation), 2)
    log_likelihood: Tensor = likelihood.log_prob((x + 1) / 2)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(bernoulli_distortion(activation, x), -log_likelihood)
    torch.testing.assert_close(Bernoulli(logits=2 * activation).mean, (1 + activation.tanh()) / 2)


def test_pixels_are_white_as_often_as_they_are_bright() -> None:
    levels = torch.tensor([0, 51, 128, 255], dtype=torch.uint8)
    drawn = binarise(levels.expand(20_000, 4), torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}  # type: ignore[no-untyped-call]
    share = (drawn > 0).float().mean(0)
    assert (share[0].item(), share[3].item()) == (0, 1)
    torch.testing.assert_close(share, levels / 255, atol=0.015, rtol=0)


def test_binarised_pixels_are_drawn_anew_each_time(small: Recipe, images: Tensor) -> None:
    objective, generator = Objective(with_(small, objective="bernoulli")), torch.Generator().manual_seed(0)
    assert not torch.equal(*(objective.signal(images, generator) for _ in range(2)))


class TestWeightsOfTheRate:
    """beta, its warm-up, and free bits."""

    def terms(self, small: Recipe, images: Tensor, progress: float = 1.0, **changes: Any) -> tuple[float, float, float]:
        model = start(small, (28, 28), CPU).model
        noise = torch.zeros(1, 20, small.latent_dim)
        found = Objective(with_(small, **changes)).terms(model, to_signal(images[:20]), noise, progress)
        return found.loss.item(), found.distortion.mean().item(), found.rate.mean().item()

    def test_beta_multiplies_the_rate_in_the_loss_alone(self, small: Recipe, images: Tensor) -> None:
        loss, distortions, rates = self.terms(small, images, beta=3.0)
        assert loss == pytest.approx(distortions + 3 * rates, rel=1e-5)

    def test_a_warm_up_lets_beta_rise_in_proportion(self, small: Recipe, images: Tensor) -> None:
        for progress, share in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)):
            loss, distortions, rates = self.terms(small, images, progress, kl_warmup=0.4)
            assert loss == pytest.approx(distortions + share * rates, rel=1e-5)

    def test_free_bits_are_a_floor_under_each_latent_s_mean_rate(self, small: Recipe, images: Tensor) -> None:
        model = start(small, (28, 28), CPU).model
        with torch.no_grad():
            mu, logvar = model.encode(to_signal(images[:20]))
        each = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(0)
        floor = each.median().item()
        loss, distortions, _ = self.terms(small, images, free_bits=floor)
        assert loss == pytest.approx(distortions + each.clamp(min=floor).sum().item(), rel=1e-5)


class TestImportanceWeights:
    """The bound of several draws, and its gradient."""

    def bound(self, model: VAE, x: Tensor, noise: Tensor) -> Tensor:
        """-log mean_k p(x|z) p(z) / q(z|x), written out with torch.distributions."""
        mu, logvar = model.encode(x)
        posterior = Normal(mu, torch.exp(0.5 * logvar))
        z = mu + torch.exp(0.5 * logvar) * noise  # [k, N, 1]
        likelihood = Bernoulli(logits=2 * torch.stack([model.activation(each) for each in z]))
        log_w = (
            likelihood.log_prob(((x + 1) / 2).expand(len(z), *x.shape)).flatten(2).sum(2)  # type: ignore[no-untyped-call]
            + Normal(0.0, 1.0).log_prob(z).sum(2)  # type: ignore[no-untyped-call]
            - posterior.log_prob(z).sum(2)  # type: ignore[no-untyped-call]
        )
        bound: Tensor = math.log(len(z)) - log_w.logsumexp(0)
        return bound

    def test_log_weights_are_those_of_torch_distributions(self) -> None:
        mu, logvar = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)).double()
        z = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1)).double()
        posterior = Independent(Normal(mu, torch.exp(0.5 * logvar)), 1)
        prior = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
        distortions = torch.rand(4, 7).double()
        expected = prior.log_prob(z) - posterior.log_prob(z) - distortions  # type: ignore[no-untyped-call]
        torch.testing.assert_close(log_weights(mu, logvar, z, distortions), expected)

    def loss(self, model: VAE, x: Tensor, noise: Tensor) -> Tensor:
        return Objective(self.recipe).terms(model, x, noise, 1.0).loss

    def test_the_gradient_is_on_average_that_of_the_bound_and_for_the_encoder_less_noisy(self, small: Recipe) -> None:
        """500 draws for one pixel: means agree within five standard errors."""
        self.recipe = with_(small, objective="bernoulli", importance_samples=8)
        x = torch.tensor([[[1.0]], [[-1.0]]])
        found: list[Tensor] = []
        naive: list[Tensor] = []
        generator = torch.Generator().manual_seed(0)
        for _ in range(500):
            noise = torch.randn(8, 2, 1, generator=generator)
            for gradients, loss in ((found, self.loss), (naive, self.bound)):
                model = Line()
                loss(model, x, noise).mean().backward()  # type: ignore[no-untyped-call]
                gradients.append(torch.stack([each.grad for each in model.parameters() if each.grad is not None]))
        one, other = torch.stack(found), torch.stack(naive)
        error = ((one - other).std(0) / math.sqrt(len(one))).clamp(min=1e-6)
        assert ((one - other).mean(0).abs() < 5 * error).all()
        torch.testing.assert_close(one[:, :2], other[:, :2], atol=1e-5, rtol=1e-4)  # the decoder's is the very same
        assert (one[:, 2:].std(0) < other[:, 2:].std(0)).all()

    def test_more_draws_make_a_tighter_bound_and_one_draw_the_elbo(self) -> None:
        model, x = Line(), torch.ones(4_000, 1, 1)
        noise = torch.randn(64, 4_000, 1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            bounds = [self.bound(model, x, noise[:k]).mean().item() for k in (1, 4, 64)]
        assert bounds == sorted(bounds, reverse=True)
