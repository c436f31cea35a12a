"""Validation: the objective on images that are not trained on, after each epoch.

Figures are means over images. Noise comes from a separate generator with a fixed seed. So validation does not change
the random numbers of the training, and equal models have equal scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from training.model import VAE
from training.objective import Objective
from training.process_group import ALONE, ProcessGroup
from training.recipe import Recipe

SCORE_SEED: Final = 0
CHUNK: Final = 1_000  # images at a time: a few megabytes, whatever the set's size


@dataclass(frozen=True, slots=True)
class Score:
    """The objective's two terms, each the mean over images, in nats."""

    distortion: float
    rate: float

    @property
    def total(self) -> float:
        """The loss: the negative evidence lower bound, for squared-error without a constant."""
        return self.distortion + self.rate


@torch.no_grad()
def score(recipe: Recipe, model: VAE, images: Tensor, group: ProcessGroup = ALONE) -> Score:
    """The objective on uint8 images [N, *image_shape], with one draw from each posterior.

    Each of several processes works on its share, and all get the score of the whole. A calibrated variance is that of
    each chunk.
    """
    objective = Objective(recipe, group)
    generator = torch.Generator().manual_seed(SCORE_SEED)
    terms = torch.zeros(2, dtype=torch.float64)
    for chunk in torch.split(images, CHUNK):
        x = group.share(objective.signal(chunk, generator))
        noise = torch.randn(1, len(chunk), recipe.latent_dim, generator=generator).to(images.device)
        found = objective.terms(model, x, group.share(noise, axis=1), progress=1.0)
        terms += torch.stack([found.distortion.sum(), found.rate.sum()]).cpu()
    return Score(*(group.sum(terms.to(images.device)) / len(images)).tolist())
