from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from service import contract
from training import checkpoint, data, evaluate, onnx_model, versions
from training.data import Sets
from training.graphs import Graphs
from training.likelihood import Likelihood
from training.model import to_signal
from training.networks.mlp import MLP
from training.objective import distortion, rate
from training.recipe import Recipe
from training.similarity import nearest, structural_similarity
from training.steps import SILENT

from . import subset
from .conftest import Run


@pytest.fixture
def sets() -> Sets:
    return data.load_both("mnist", subset.DIRECTORY)


@pytest.fixture
def graphs(finished: Run) -> Graphs:
    return read(finished.bundle)


def read(bundle: Path) -> Graphs:
    return Graphs(*((bundle / name).read_bytes() for name in (contract.ENCODER_FILE, contract.DECODER_FILE)))


def figures(bundle: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((bundle / contract.CONTRACT_FILE).read_text())["metrics"]
    return metrics


class Linear(Graphs):
    """Graphs of a linear model with a standard normal prior, whose p(x) is a Gaussian."""

    def __init__(self, weight: Tensor, std: float) -> None:
        self.weight, self.std = weight, std  # [L, D]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mu = to_signal(images).flatten(1) @ self.weight.T * 0.8
        return mu, torch.full_like(mu, 2 * math.log(self.std))

    def mean_image(self, z: Tensor) -> Tensor:
        return (z @ self.weight).view(-1, 2, 2)


def test_the_figures_are_those_of_the_graphs_and_of_their_definitions(
    finished: Run, graphs: Graphs, sets: Sets, small: Recipe
) -> None:
    found = figures(finished.bundle)
    model = checkpoint.trained(finished.checkpoint).model
    with torch.no_grad():
        mu, logvar = model.encode(to_signal(sets.test_images))
        pixels = (model.decode(mu) + 1) / 2
    mse = (pixels - sets.test_images / 255).square().mean().item()
    assert found["mse"] == pytest.approx(mse, rel=1e-3)
    assert found["psnr"] == pytest.approx(10 * math.log10(1 / mse), abs=0.01)
    assert found["rate"] == pytest.approx(rate(mu, logvar).mean().item(), abs=1e-3)
    assert found["total"] == pytest.approx(found["distortion"] + found["rate"], abs=1e-4)
    assert 0 <= found["active_units"] <= small.latent_dim
    assert found["weights"] == sum(each.numel() for each in model.parameters())
    assert found["nll"] < found["total"]


def test_measuring_a_bundle_anew_gives_its_own_figures(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(finished.bundle), f"--data-dir={subset.DIRECTORY}"]) == 0
    assert json.loads(capsys.readouterr().out) == figures(finished.bundle)


def test_a_bundle_that_claims_something_else_is_found_out(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path.name: path.read_bytes() for path in finished.bundle.iterdir()}
    document = json.loads(files[contract.CONTRACT_FILE])
    document["metrics"]["total"] -= 10
    files[contract.CONTRACT_FILE] = json.dumps(document).encode()
    versions.publish(files, tmp_path / "1", overwrite=False)
    assert evaluate.main([str(tmp_path / "1"), f"--data-dir={subset.DIRECTORY}"]) == 1
    assert capsys.readouterr().err.endswith(f"{tmp_path / '1'} has other figures: total.\n")


def test_a_bundle_with_other_figures_gets_what_is_measured(finished: Run, tmp_path: Path) -> None:
    """As one has that was exported by older code."""
    files = {path.name: path.read_bytes() for path in finished.bundle.iterdir()}
    document = json.loads(files[contract.CONTRACT_FILE])
    for figure in [name for name in document["metrics"] if name.startswith("second_")]:
        del document["metrics"][figure]
    del document["tools"]["second_classifier"]
    files[contract.CARD_FILE] = b"# An older card"
    document["files"][contract.CARD_FILE] = hashlib.sha256(b"# An older card").hexdigest()
    versions.publish(files | {contract.CONTRACT_FILE: json.dumps(document).encode()}, tmp_path / "1", overwrite=False)
    assert evaluate.main([str(tmp_path / "1"), f"--data-dir={subset.DIRECTORY}", "--overwrite"]) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "1").iterdir()}
    assert found == {name: (finished.bundle / name).read_bytes() for name in files}


def test_a_quick_look_is_not_written(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main([str(finished.bundle), "--quick", "--overwrite"])
    assert "give one of them" in capsys.readouterr().err


def test_what_is_no_bundle_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path} is not a bundle that can be evaluated: ")


def test_a_latent_that_says_nothing_is_not_in_use(finished: Run, sets: Sets) -> None:
    model = checkpoint.trained(finished.checkpoint).model
    assert isinstance(model, MLP)
    model.posterior.weight[3] = 0
    silenced = Graphs(*onnx_model.graphs(model, sets.test_images, {}))
    found = evaluate.reconstruction_figures(silenced, sets, SILENT)
    assert found["active_units"] == figures(finished.bundle)["active_units"] - 1


class TestLogLikelihood:
    """The importance-weighted estimate, against a model whose log p(x) can be written down."""

    def linear(self) -> tuple[Linear, Tensor, Recipe]:
        weight = torch.tensor([[0.3, -0.2, 0.4, 0.1]])
        images = torch.tensor([[[0, 255], [200, 30]], [[120, 90], [10, 250]]], dtype=torch.uint8)
        recipe = Recipe.model_validate(
            {
                **_PLAIN,
                "network": "mlp",
                "latent_dim": 1,
                "hidden": 1,
                "objective": "squared-error",
            }
        )
        return Linear(weight, 0.9), images, recipe

    def test_it_is_log_p_of_a_model_that_has_a_closed_form(self) -> None:
        graphs, images, recipe = self.linear()
        covariance = 0.5 * torch.eye(4) + graphs.weight.T @ graphs.weight
        exact = MultivariateNormal(torch.zeros(4), covariance).log_prob(to_signal(images).flatten(1))  # type: ignore[no-untyped-call]
        estimate = Likelihood(recipe).log_likelihood(graphs, images, 20_000)
        torch.testing.assert_close(estimate - 2 * math.log(math.pi), exact, atol=0.02, rtol=0)

    def test_it_rises_with_the_draws_and_lies_above_the_elbo(self) -> None:
        graphs, images, recipe = self.linear()
        many = images.repeat(2_000, 1, 1)
        likelihood = Likelihood(recipe)
        elbo = -sum(term.mean().item() for term in likelihood.terms(graphs, many))
        bounds = [likelihood.log_likelihood(graphs, many, k).mean().item() for k in (1, 3, 10)]
        assert elbo == pytest.approx(bounds[0], abs=0.1)
        assert bounds == sorted(bounds)
        assert bounds[1] > elbo

    def test_black_and_white_pixels_have_their_probability(self) -> None:
        recipe = Recipe.model_validate({**_PLAIN, "objective": "bernoulli"})
        x_hat = torch.tensor([[0.5, -0.5, 1.0, -1.0]])
        x = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
        expected = -math.log(0.75) - math.log(0.25) - 0 - math.log(contract.LEAST_PROBABILITY)
        assert Likelihood(recipe).distortion(x_hat, x).item() == pytest.approx(expected, rel=1e-5)

    def test_a_calibrated_variance_is_that_of_the_training_images(self, graphs: Graphs, sets: Sets) -> None:
        recipe = Recipe.model_validate({**_PLAIN, "objective": "calibrated", "latent_dim": 8})
        likelihood = Likelihood.of(graphs, recipe, sets.train_images)
        assert likelihood.variance is not None
        # The same images under the variance that was measured on them: half a nat a pixel.
        distortions, _ = likelihood.terms(graphs, sets.train_images)
        at_best = 392 * (1 + math.log(2 * math.pi * likelihood.variance))
        assert distortions.mean().item() == pytest.approx(at_best, rel=1e-4)


def test_ssim_is_one_for_equal_images_and_falls_with_noise(sets: Sets) -> None:
    pixels = sets.test_images[:50] / 255
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(structural_similarity(pixels, pixels), torch.ones(50))
    steps = [structural_similarity(pixels, (pixels + scale * noise).clamp(0, 1)).mean().item() for scale in (0.05, 0.3)]
    assert 1 > steps[0] > steps[1] > 0
    colours = pixels[..., None].expand(*pixels.shape, 3)
    noisy = (pixels + 0.3 * noise).clamp(0, 1)
    torch.testing.assert_close(
        structural_similarity(colours, noisy[..., None].expand(*pixels.shape, 3)), structural_similarity(pixels, noisy)
    )


def test_ssim_of_two_flat_images_is_its_formula_s() -> None:
    one, other = torch.full((1, 20, 20), 0.2), torch.full((1, 20, 20), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert structural_similarity(one, other).item() == pytest.approx(expected, rel=1e-3)


def test_the_nearest_training_image_is_found(sets: Sets) -> None:
    assert nearest(sets.train_images[:20], sets.train_images) == pytest.approx(0, abs=1e-3)
    one = sets.test_images[:1]
    apart = ((one / 255 - sets.train_images / 255) ** 2).mean((1, 2)).sqrt().min().item()
    assert nearest(one, sets.train_images) == pytest.approx(apart, rel=1e-4)


def test_distortion_and_rate_of_the_graphs_are_the_loss_code_s(graphs: Graphs, sets: Sets, small: Recipe) -> None:
    distortions, rates = Likelihood(small).terms(graphs, sets.test_images)
    mu, logvar = graphs.encode(sets.test_images)
    assert torch.equal(rates, rate(mu, logvar))
    at_mu = distortion(graphs.mean_image(mu), to_signal(sets.test_images))
    assert distortions.mean() > at_mu.mean()  # noise costs
    np.testing.assert_array_equal(
        graphs.images(mu.numpy()), ((graphs.mean_image(mu).numpy() + 1) * np.float32(127.5)).round().astype(np.uint8)
    )


_PLAIN = {
    "name": "plain",
    "dataset": "mnist",
    "validation_size": 1,
    "network": "mlp",
    "hidden": 1,
    "latent_dim": 1,
    "objective": "squared-error",
    "epochs": 1,
    "batch_size": 1,
    "learning_rate": 1.0,
    "schedule": "constant",
    "averaging_decay": 0.0,
    "seed": 0,
    "checkpoint_every": 1,
}
