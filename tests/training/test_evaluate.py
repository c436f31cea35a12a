from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training import data, recipe
from training.checkpoint import start
from training.evaluate import LinearVAE, evaluate, score
from training.model import to_signal
from training.objective import distortion, rate
from training.recipe import Recipe

from . import subset

SUBSET_OPTIMUM = 101.05  # of the 600 committed training images with 20 latents
FULL = Path(os.environ.get("VAE_MNIST_DIR", subset.ROOT.parent / "shared" / "data" / "mnist"))


def test_the_loss_code_gives_the_linear_optimum_its_closed_form(images: Tensor) -> None:
    oracle = LinearVAE.fit(images, latent_dim=20)
    x = to_signal(images).double()
    mu, logvar = oracle.encode(x)
    # The distortion is quadratic in the noise: its mean over N(0, I) is its mean over the 40 points +-sqrt(20) e_i.
    points = math.sqrt(20) * torch.cat([torch.eye(20), -torch.eye(20)]).double()
    distortions = [distortion(oracle.decode(mu + torch.exp(0.5 * logvar) * eps), x).mean().item() for eps in points]
    through_the_loss = sum(distortions) / 40 + rate(mu, logvar).mean().item()
    assert through_the_loss == pytest.approx(oracle.total, abs=1e-6)
    assert oracle.score(images).total == pytest.approx(oracle.total, abs=1e-6)
    assert oracle.total == pytest.approx(SUBSET_OPTIMUM, abs=0.01)


def test_no_other_linear_model_beats_the_oracle(images: Tensor) -> None:
    oracle = LinearVAE.fit(images, latent_dim=20)
    for scale in (0.98, 1.02):
        other = LinearVAE(oracle.mean, oracle.weight * scale, oracle.variance, oracle.image_shape, oracle.total)
        assert other.score(images).total > oracle.total


def test_latents_that_cannot_pay_for_themselves_are_left_out(images: Tensor) -> None:
    assert LinearVAE.fit(images, 784).total == LinearVAE.fit(images, 100).total
    assert len(LinearVAE.fit(images, 784).variance) < 100


@pytest.mark.skipif(not FULL.is_dir(), reason="the full MNIST is not here; VAE_MNIST_DIR says where it is")
def test_the_linear_optimum_scores_107_85_on_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    training_images, _ = data.load("mnist", "train", FULL)
    test_images, _ = data.load("mnist", "test", FULL)
    oracle = LinearVAE.fit(training_images, latent_dim=20)
    assert oracle.total == pytest.approx(109.11, abs=0.01)
    assert oracle.score(test_images).total == pytest.approx(107.85, abs=0.01)
    assert score(oracle, test_images).total == pytest.approx(107.85, abs=0.1)  # one draw from each posterior


def test_figures_are_those_of_their_definitions(images: Tensor, small: Recipe) -> None:
    model = start(small, torch.device("cpu")).average
    figures = evaluate(model, images[:200], images)
    with torch.no_grad():
        mu, _ = model.encode(to_signal(images[:200]))
        pixels = (model.decode(mu) + 1) / 2
    mse = (pixels - images[:200] / 255).square().mean().item()
    assert figures["mse"] == pytest.approx(mse, rel=1e-4)
    assert figures["psnr"] == pytest.approx(10 * math.log10(1 / mse), abs=1e-3)
    assert figures["total"] == pytest.approx(figures["distortion"] + figures["rate"], abs=1e-5)
    assert 0 <= figures["active_units"] <= small.latent_dim


def test_a_latent_that_says_nothing_is_not_in_use(images: Tensor, small: Recipe) -> None:
    model = start(small, torch.device("cpu")).average
    before = evaluate(model, images, images)["active_units"]
    with torch.no_grad():
        model.posterior.weight[3] = 0
    assert evaluate(model, images, images)["active_units"] == before - 1


def test_the_same_model_always_scores_the_same(images: Tensor, small: Recipe) -> None:
    model = start(small, torch.device("cpu")).average
    assert score(model, images) == score(model, images)


def test_the_notebook_s_network_starts_far_above_what_it_learns(images: Tensor) -> None:
    model = start(recipe.read("mnist-mlp-notebook"), torch.device("cpu")).average
    assert score(model, images).total > 300
