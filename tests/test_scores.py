"""Training and the service score images by the same numbers: terms, log-likelihood and typicality."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt
import pytest
import torch

from harness.digits import digits
from harness.paths import MODELS
from service import contract
from service.inference.autoencoder import noise
from service.inference.job import Job
from service.inference.objective import Objective, log_likelihoods, rates
from service.inference.registry import RegistryOptions, open_registry
from training import recipe as recipes
from training.graphs import Graphs
from training.likelihood import Likelihood
from training.model import to_signal
from training.objective import log_weights, rate
from training.rewrite import read
from training.typicality import Judge

Floats = npt.NDArray[np.float32]
RECIPES = {
    "squared-error": ("mnist-mlp", None),
    "calibrated": ("mnist-mlp-calibrated", 0.05),
    "bernoulli": ("mnist-binarised", None),
}


@pytest.fixture(params=contract.OBJECTIVES)
def both(request: pytest.FixtureRequest) -> tuple[Objective, Likelihood]:
    """An objective as the service has it and as training has it."""
    name, variance = RECIPES[request.param]
    recipe = recipes.read(name)
    assert recipe.objective == request.param
    return Objective(request.param, variance or 0.0), Likelihood(recipe, variance)


@pytest.fixture
def posterior() -> tuple[Floats, Floats]:
    draw = np.random.Generator(np.random.PCG64(1)).standard_normal
    return draw((20, 8), np.float32), draw((20, 8), np.float32) - 2


def mean_images(count: int) -> Floats:
    draw = np.random.Generator(np.random.PCG64(2)).standard_normal
    return np.tanh(2 * draw((count, 28, 28), np.float32))


def test_every_objective_known_to_training_is_known_to_the_service() -> None:
    assert {recipes.read(name).objective for name in recipes.known()} == set(contract.OBJECTIVES)


def test_the_distortion_is_trainings(both: tuple[Objective, Likelihood]) -> None:
    served, trained = both
    images = trained.shown(torch.from_numpy(digits()[:20].copy())).numpy()
    x_hat = mean_images(20)
    expected = trained.distortion(torch.from_numpy(x_hat), to_signal(torch.from_numpy(images)))
    np.testing.assert_allclose(served.distortions(x_hat, images), expected.numpy(), rtol=1e-5)


def test_the_distortion_of_grey_pixels_is_the_mean_over_drawn_ones() -> None:
    """The mean over 20,000 draws, within five standard errors."""
    objective, grey = Objective("bernoulli", 0.0), np.array([[[30, 200], [128, 255]]], np.uint8)
    x_hat = np.array([[[-0.5, 0.9], [0.2, 0.7]]], np.float32)
    uniform = np.random.Generator(np.random.PCG64(0)).random((20_000, 2, 2))
    drawn = np.where(uniform * 255 < grey, 255, 0).astype(np.uint8)
    found = objective.distortions(np.broadcast_to(x_hat, drawn.shape), drawn)
    assert abs(found.mean() - objective.distortions(x_hat, grey)[0]) < 5 * found.std() / np.sqrt(20_000)


def test_the_rate_is_trainings(posterior: tuple[Floats, Floats]) -> None:
    expected = rate(*map(torch.from_numpy, posterior)).numpy()
    np.testing.assert_allclose(rates(*posterior), expected, rtol=1e-5)


def test_the_log_likelihood_is_trainings(both: tuple[Objective, Likelihood], posterior: tuple[Floats, Floats]) -> None:
    """Of the same draws, by training's weights: Burda et al. 2016, equation 8."""
    served, trained = both
    (mu, logvar), k = posterior, 7
    eps = noise((20, k, 8), 3)
    z: Floats = mu[:, None] + np.exp(logvar / np.float32(2))[:, None] * eps
    images = trained.shown(torch.from_numpy(digits()[:20].copy())).numpy().repeat(k, axis=0)
    x_hat = mean_images(20 * k)
    distortions = served.distortions(x_hat, images).reshape(20, k)
    theirs = trained.distortion(torch.from_numpy(x_hat), to_signal(torch.from_numpy(images))).view(20, k)
    weights = log_weights(torch.from_numpy(mu), torch.from_numpy(logvar), torch.from_numpy(z).transpose(0, 1), theirs.T)
    expected = weights.logsumexp(0) - np.log(k)
    np.testing.assert_allclose(log_likelihoods(distortions, logvar, eps, z), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-resmlp", "mnist-sharp", "fashion-mlp"])
def test_the_typicality_that_training_measures_is_what_the_service_answers(name: str) -> None:
    """Of digits, which have a typicality of every size, and of pictures far from all digits."""
    draw = np.random.Generator(np.random.PCG64(0))
    strange = [digits()[:20, ::-1], 255 - digits()[:5], draw.integers(0, 256, (5, 28, 28), np.uint8)]
    images = np.concatenate([digits()[:100], *strange])
    registry = open_registry(MODELS, default=name, options=RegistryOptions("cpu", 1, 256, (name,)))
    served = asyncio.run(registry.default.autoencoder.score(images, Job()))
    registry.close()
    _, files = read(MODELS / name / str(registry.default.engine.contract.version))
    np.testing.assert_allclose(served.typicality, Judge(files)(images), rtol=2e-3, atol=1e-5)


def test_the_mean_distortion_of_draws_is_what_the_card_measures() -> None:
    """Both draw from the posteriors of 200 digits, with noise of their own: within five standard errors."""
    images = digits()[:200]
    bundle, files = read(MODELS / "mnist-mlp" / "2")
    graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
    recipe = recipes.recorded(bundle.recipe, "It")
    card, _ = Likelihood(recipe).terms(graphs, torch.from_numpy(images.copy()))
    registry = open_registry(MODELS, default="mnist-mlp", options=RegistryOptions("cpu", 1, 256, ("mnist-mlp",)))
    served = asyncio.run(registry.default.autoencoder.score(images, Job(), k=5, seed=0))
    registry.close()
    apart = served.distortion - card.numpy()
    assert abs(apart.mean()) < 5 * apart.std() / np.sqrt(len(apart))
