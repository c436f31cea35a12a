"""Posteriors that are refined inside the encoder's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from harness.paths import MODELS
from service import contract
from training import data, networks, onnx_model, recipe, refine
from training.graphs import Graphs
from training.model import VAE, to_signal
from training.objective import bernoulli_distortion, distortion, distortion_gradient, gaussian_distortion, rate
from training.onnx_graph import session
from training.recipe import Recipe
from training.refinement import Refined

from . import subset

NETWORKS = [("mlp", 0), ("resmlp", 2), ("conv", 1)]
OBJECTIVES = [("squared-error", None), ("calibrated", 0.05), ("bernoulli", None)]
# No width is a multiple of what a processor adds at once.
SHAPES = [(28, 28), (7, 5, 3)]


def wanted(network: str = "mlp", blocks: int = 0, **changes: Any) -> Recipe:
    values = {"network": network, "blocks": blocks, "hidden": 9, "latent_dim": 5}
    steps = {"refinement_steps": 2, "refinement_draws": 4}
    return Recipe.model_validate(recipe.read("mnist-mlp").model_dump() | values | steps | changes)


def built(chosen: Recipe, image_shape: tuple[int, ...] = (28, 28)) -> VAE:
    """A network in which every layer does something, those that start at zero, too."""
    generator = torch.Generator().manual_seed(1)
    model = networks.build(chosen, image_shape, generator).requires_grad_(False)
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def pixels(count: int, image_shape: tuple[int, ...]) -> Tensor:
    return torch.randint(256, (count, *image_shape), generator=torch.Generator().manual_seed(2)).to(torch.uint8)


def loss(chosen: Recipe, variance: float | None, activation: Tensor, x: Tensor) -> Tensor:
    """The distortion of each image as the objective has it."""
    if chosen.objective == "bernoulli":
        return bernoulli_distortion(activation, x)
    squares = distortion(activation.tanh(), x)
    if variance is None:
        return squares
    return gaussian_distortion(squares, torch.tensor(variance, dtype=x.dtype), x[0].numel())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("network", "blocks"), NETWORKS)
def test_the_decoder_s_backward_pass_is_autograd_s(network: str, blocks: int, shape: tuple[int, ...]) -> None:
    model = built(wanted(network, blocks), shape).double()
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = model.activation(z)
    (gradient,) = torch.autograd.grad(expected, z, weights)
    activation, pull = model.activation_vjp(z)
    torch.testing.assert_close(activation, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pull(weights), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("objective", "variance"), OBJECTIVES)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_gradient_is_that_of_the_objective(objective: str, variance: float | None, beta: float) -> None:
    chosen = wanted("resmlp", 2, objective=objective, beta=beta)
    model = Refined(built(chosen), chosen, variance).double()
    x = pixels(3, (28, 28)).double() / 127.5 - 1
    x = x.sign() if objective == "bernoulli" else x
    mu, logvar = (each.requires_grad_() for each in model.model.encode(x))
    eps = model.draws[0].unsqueeze(1)
    z = mu + torch.exp(logvar / 2) * eps  # [S, 3, 5]
    distortions = torch.stack([loss(chosen, variance, model.activation(each), x) for each in z]).mean(0)
    total = (distortions + beta * rate(mu, logvar)).sum()
    for found, expected in zip(
        model.gradient(x, mu, logvar, eps), torch.autograd.grad(total, (mu, logvar)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_a_grey_pixel_of_the_bernoulli_objective_counts_as_often_white_as_it_is_bright() -> None:
    activation = torch.tensor([[0.3]])
    black, white = (distortion_gradient("bernoulli", activation, torch.tensor([[value]])) for value in (-1.0, 1.0))
    grey = distortion_gradient("bernoulli", activation, torch.tensor([[-0.5]]))  # white with probability 1/4
    torch.testing.assert_close(grey, 0.75 * black + 0.25 * white)


def test_the_draws_of_a_step_have_mean_zero_and_variance_one_and_the_seed_decides_them() -> None:
    chosen = wanted(refinement_draws=6)
    draws = Refined(built(chosen), chosen).draws
    assert draws.shape == (2, 6, 5)
    assert torch.equal(draws.sum(1), torch.zeros(2, 5))
    assert torch.equal(draws.square(), torch.ones(2, 6, 5))
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws, Refined(built(chosen), chosen).draws)
    other = chosen.model_copy(update={"seed": chosen.seed + 1})
    assert not torch.equal(draws, Refined(built(other), other).draws)


def test_no_step_changes_the_logarithm_of_the_variance_by_more_than_a_half() -> None:
    chosen = wanted(refinement_steps=1, refinement_step_size=1.0, objective="calibrated")
    model = Refined(built(chosen), chosen, 1e-6)  # so small a variance makes gradients huge
    x = to_signal(pixels(8, (28, 28)))
    before, after = model.model.encode(x)[1], model.encode(x)[1]
    torch.testing.assert_close((after - before).abs(), torch.full((8, 5), 0.5))


def test_each_further_step_lowers_the_total_of_the_notebook_s_network() -> None:
    run = refine.read(MODELS / "mnist-mlp" / "2")
    images, _ = data.load("mnist", "test", subset.DIRECTORY)
    x = to_signal(images[:100])
    eps = torch.randn(20, 1, 20, generator=torch.Generator().manual_seed(5))

    def total(steps: int) -> float:
        more = run.recipe.model_copy(update={"refinement_steps": steps, "refinement_draws": 2})
        mu, logvar = Refined(run.model, more).encode(x)
        distortions = [distortion(run.model.decode(z), x) for z in mu + torch.exp(logvar / 2) * eps]
        return float((torch.stack(distortions).mean(0) + rate(mu, logvar)).mean())

    totals = [total(steps) for steps in (0, 1, 4)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] - totals[1] > 1.5


@pytest.mark.parametrize(
    ("network", "blocks", "steps", "objective", "variance"),
    [
        ("mlp", 0, 2, "squared-error", None),
        ("resmlp", 1, 1, "calibrated", 0.05),
        ("conv", 1, 1, "bernoulli", None),
    ],
)
def test_the_graph_gives_what_pytorch_gives_and_a_row_alone_is_the_row_of_any_batch(
    network: str, blocks: int, steps: int, objective: str, variance: float | None
) -> None:
    # The gradients of a network that is not trained are huge, and so are its differences between two libraries.
    size = {"refinement_steps": steps, "refinement_step_size": 1e-3}
    chosen = wanted(network, blocks, objective=objective, **size)
    model = Refined(built(chosen), chosen, variance).eval()
    images = pixels(33, (28, 28))
    encoder, decoder = onnx_model.graphs(model, images, {})
    onnx_model.prove_parity(model, encoder, decoder, images)
    runtime = session(encoder)
    alone = [runtime.run(None, {contract.IMAGE: image[None].numpy()}) for image in images]
    for output in (0, 1):
        rows = np.concatenate([each[output] for each in alone])
        for batch in (*range(1, 18), 31, 32, 33):
            found = runtime.run(None, {contract.IMAGE: images[:batch].numpy()})[output]
            np.testing.assert_array_equal(found, rows[:batch])
    # The encoder holds the decoder's weights once, and they count once; the rest are the draws and a few constants.
    weights = sum(each.numel() for each in model.parameters())
    assert Graphs(encoder, decoder).weights == weights
    assert sum(np.prod(each.dims) for each in onnx.load_from_string(encoder).graph.initializer) < weights + 300
