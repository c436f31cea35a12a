from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training import data
from training.linear import LinearVAE
from training.model import to_signal
from training.objective import distortion, rate

from .subset import FULL

SUBSET_OPTIMUM = 101.05  # of the 600 committed training images with 20 latents


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
