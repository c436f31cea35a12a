from __future__ import annotations

import pytest
import torch

from training import networks, recipe
from training.model import VAE, to_signal
from training.networks import conv, mlp, resmlp
from training.recipe import Recipe

NOTEBOOK = mlp.Architecture(image_shape=(28, 28), hidden=400, latent_dim=20)
KINDS = ["mlp", "resmlp", "conv"]


def build(network: str, image_shape: tuple[int, ...], seed: int = 0) -> VAE:
    blocks = 0 if network == "mlp" else 2
    wanted = recipe.read("mnist-mlp").model_dump() | {
        "network": network,
        "blocks": blocks,
        "hidden": 8,
        "latent_dim": 2,
    }
    return networks.build(Recipe.model_validate(wanted), image_shape, torch.Generator().manual_seed(seed))


def test_mlp_is_the_notebook_s() -> None:
    shapes = {tuple(parameter.shape) for parameter in mlp.MLP(NOTEBOOK).parameters()}
    assert shapes == {(400, 784), (400,), (40, 400), (40,), (400, 20), (784, 400), (784,)}
    assert sum(parameter.numel() for parameter in mlp.MLP(NOTEBOOK).parameters()) == 652_824


@pytest.mark.parametrize("network", KINDS)
@pytest.mark.parametrize("shape", [(28, 28), (6, 5, 3), (9, 7)])
def test_images_of_any_shape_go_through(network: str, shape: tuple[int, ...]) -> None:
    model = build(network, shape)
    mu, logvar = model.encode(to_signal(torch.zeros(4, *shape, dtype=torch.uint8)))
    assert mu.shape == logvar.shape == (4, 2)
    x_hat = model.decode(mu)
    assert x_hat.shape == (4, *shape)
    assert x_hat.abs().max() < 1
    assert torch.equal(x_hat, model.activation(mu).tanh())


@pytest.mark.parametrize("network", KINDS)
def test_the_generator_alone_decides_the_first_weights(network: str) -> None:
    first, second, other = (build(network, (8, 8), seed) for seed in (1, 1, 2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert any(not torch.equal(weight, other.state_dict()[name]) for name, weight in first.state_dict().items())


@pytest.mark.parametrize("network", KINDS)
def test_an_image_s_answer_does_not_depend_on_its_neighbours(network: str) -> None:
    model = build(network, (8, 8))
    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together, alone = model.encode(x)[0], torch.cat([model.encode(row[None])[0] for row in x])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(model.decode(together), torch.cat([model.decode(mu[None]) for mu in together]))


@pytest.mark.parametrize(
    "model",
    [resmlp.Block(8, torch.Generator()), conv.Block(8, torch.Generator())],
    ids=["resmlp", "conv"],
)
def test_a_residual_block_starts_as_the_identity_and_can_learn(model: resmlp.Block | conv.Block) -> None:
    h = torch.rand(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    out = model(h)
    assert torch.equal(out, h)
    out.square().sum().backward()
    assert model.second.weight.grad is not None
    assert model.second.weight.grad.any()


def test_every_pixel_of_a_convolutional_decoder_follows_the_latents() -> None:
    """Also those at the edges of a size that four does not divide."""
    model = build("conv", (9, 7, 3))
    one, other = model.decode(torch.tensor([[0.0, 0.0], [2.0, -2.0]]))
    assert (one != other).all()
