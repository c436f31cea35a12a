"""The networks: one file each, with one dataclass for the sizes."""

from __future__ import annotations

import torch

from training.model import VAE
from training.networks import conv, mlp, resmlp
from training.recipe import Recipe


def build(recipe: Recipe, image_shape: tuple[int, ...], generator: torch.Generator | None = None) -> VAE:
    """The network of a recipe for images of this shape. Its first weights are drawn from `generator`."""
    match recipe.network:
        case "mlp":
            return mlp.MLP(mlp.Architecture(image_shape, recipe.hidden, recipe.latent_dim), generator)
        case "resmlp":
            shape = resmlp.Architecture(image_shape, recipe.hidden, recipe.blocks, recipe.latent_dim)
            return resmlp.ResMLP(shape, generator)
        case "conv":
            return conv.Conv(conv.Architecture(image_shape, recipe.hidden, recipe.blocks, recipe.latent_dim), generator)
