from __future__ import annotations

import torch

from training.model import VAE, Architecture, to_image, to_signal

NOTEBOOK = Architecture(image_shape=(28, 28), hidden=400, latent_dim=20)


def test_the_network_is_the_notebook_s() -> None:
    shapes = {tuple(parameter.shape) for parameter in VAE(NOTEBOOK).parameters()}
    assert shapes == {(400, 784), (400,), (40, 400), (40,), (400, 20), (784, 400), (784,)}
    assert sum(parameter.numel() for parameter in VAE(NOTEBOOK).parameters()) == 652_824


def test_grey_levels_survive_the_way_to_the_signal_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    signal = to_signal(levels)
    assert signal[[0, 255]].tolist() == [-1, 1]
    assert torch.equal(to_image(signal), levels)


def test_a_signal_out_of_range_is_clamped() -> None:
    assert to_image(torch.tensor([-7.0, -1.001, 1.001, 7.0])).tolist() == [0, 0, 255, 255]


def test_images_of_any_shape_go_through() -> None:
    model = VAE(Architecture(image_shape=(6, 5, 3), hidden=7, latent_dim=2))
    mu, logvar = model.encode(to_signal(torch.zeros(4, 6, 5, 3, dtype=torch.uint8)))
    assert mu.shape == logvar.shape == (4, 2)
    assert model.decode(mu).shape == (4, 6, 5, 3)


def test_the_generator_alone_decides_the_first_weights() -> None:
    first, second = (VAE(NOTEBOOK, torch.Generator().manual_seed(1)) for _ in range(2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not first.pixels.bias.any()
