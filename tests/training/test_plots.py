from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from training import plots

HISTORY = [(100.0 / epoch, 20.0, 90.0 / epoch + 1, 21.0) for epoch in range(1, 31)]


def test_equal_numbers_make_equal_bytes_and_others_another_picture() -> None:
    assert plots.curves(HISTORY) == plots.curves(HISTORY)
    assert plots.curves(HISTORY) != plots.curves(HISTORY[:-1])


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_of_any_length_are_drawn(epochs: int) -> None:
    with Image.open(io.BytesIO(plots.curves(HISTORY[:epochs]))) as picture:
        assert picture.size == (900, 300)


@pytest.mark.parametrize("figures", [1, 2, 3])
def test_each_figure_of_samples_has_its_part_of_the_plot(figures: int) -> None:
    found = {0.9 + step / 10: {f"figure {index}": step + index for index in range(figures)} for step in range(3)}
    assert plots.trade(found, 1.0) == plots.trade(dict(reversed(found.items())), 1.0)
    assert plots.trade(found, 1.0) != plots.trade(found, 0.9)
    with Image.open(io.BytesIO(plots.trade(found, 1.0))) as picture:
        assert picture.size == (300 * figures, 300)


@pytest.mark.parametrize("latents", [1, 2, 5])
def test_the_map_is_drawn_for_any_number_of_latents(latents: int) -> None:
    mu = np.random.Generator(np.random.PCG64(0)).standard_normal((50, latents)).astype(np.float32)
    labels = np.arange(50, dtype=np.uint8) % 3
    first = plots.latent_map(mu, labels)
    assert first == plots.latent_map(mu, labels)
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.size == (600, 500)
