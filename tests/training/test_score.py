from __future__ import annotations

import torch
from torch import Tensor

from training import recipe
from training.checkpoint import start
from training.recipe import Recipe
from training.score import score

CPU = torch.device("cpu")


def test_the_same_model_always_scores_the_same(images: Tensor, small: Recipe) -> None:
    model = start(small, (28, 28), CPU).average
    assert score(small, model, images) == score(small, model, images)


def test_a_binarised_model_is_scored_on_the_same_draw_of_pixels(images: Tensor, small: Recipe) -> None:
    binarised = small.model_copy(update={"objective": "bernoulli"})
    model = start(binarised, (28, 28), CPU).average
    assert score(binarised, model, images) == score(binarised, model, images)


def test_the_notebook_s_network_starts_far_above_what_it_learns(images: Tensor) -> None:
    notebook = recipe.read("mnist-mlp-notebook")
    assert score(notebook, start(notebook, (28, 28), CPU).average, images).total > 300
