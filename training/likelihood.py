"""How likely images are under a bundle's graphs: distortion and rate, and the importance-weighted log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from service.contract import LEAST_PROBABILITY
from training import parallel
from training.graphs import CHUNK, Graphs
from training.model import to_signal
from training.objective import binarise, distortion, gaussian_distortion, log_weights, rate, reparametrise
from training.recipe import Recipe

NOISE_SEED: Final = 0
# Latents that are decoded in one run: few enough that their images stay in the cache until they are compared, and of
# large images no more than this many pixels.
ROWS: Final = 500
PIXELS: Final = 1 << 22
# Images of one task of the log-likelihood, where there are few draws of each.
IMAGES_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Likelihood:
    """p(x|z) of a recipe's objective, computed from the decoder's mean images.

    `variance` is the calibrated one, of pixels in [-1, 1]; for the other objectives it is None.
    """

    recipe: Recipe
    variance: float | None = None

    @classmethod
    def of(cls, graphs: Graphs, recipe: Recipe, train_images: Tensor) -> Likelihood:
        """The likelihood of a bundle.

        A calibrated variance is the mean squared error of training images, decoded from one draw each. That is the
        variance of highest likelihood.
        """
        if recipe.objective != "calibrated":
            return cls(recipe)
        squares = torch.cat([distortion(x_hat, x) for x, x_hat, _, _ in _reconstructions(graphs, train_images)])
        return cls(recipe, squares.double().mean().item() / train_images[0].numel())

    def shown(self, images: Tensor) -> Tensor:
        """The images that the objective is about, uint8.

        They are the images themselves, or for "bernoulli" the images with each pixel drawn black or white.
        """
        if self.recipe.objective != "bernoulli":
            return images
        white = binarise(images, torch.Generator().manual_seed(NOISE_SEED)) > 0
        return white.to(torch.uint8) * 255

    def distortion(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) of each image, [N], in nats, with the constants of `training.objective`.

        Both arguments are float32 [N, ...] in [-1, 1].
        """
        if self.recipe.objective == "bernoulli":  # x is -1 or 1, so this is the probability of the pixel's value
            return -((1 + x * x_hat) / 2).clamp(min=LEAST_PROBABILITY).log().flatten(1).sum(1)
        squares = distortion(x_hat, x)
        if self.variance is None:
            return squares
        return gaussian_distortion(squares, torch.tensor(self.variance), x[0].numel())

    def terms(self, graphs: Graphs, images: Tensor) -> tuple[Tensor, Tensor]:
        """Distortion, with one draw from each posterior, and rate of uint8 images [N, *image_shape]: [N] each."""
        found = [
            (self.distortion(x_hat, x), rate(mu, logvar)) for x, x_hat, mu, logvar in _reconstructions(graphs, images)
        ]
        distortions, rates = (torch.cat(terms) for terms in zip(*found, strict=True))
        return distortions, rates

    def log_likelihood(
        self, graphs: Graphs, images: Tensor, draws: int, advance: Callable[[int], None] = lambda _: None
    ) -> Tensor:
        """Estimates of log p(x) for uint8 images [N, *image_shape]: float32 [N], in nats.

        log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) over k = `draws` draws from the posterior (Burda et al. 2016, equation
        8). On average this is a lower bound, which rises with k. The noise of each image is drawn in turn, so the
        result does not depend on how the work is divided. `advance` is called with the number of images that are done.
        """
        mus, logvars = graphs.encode(images)
        noise = torch.Generator().manual_seed(NOISE_SEED)
        together = max(1, min(IMAGES_AT_ONCE, ROWS * 4 // draws))

        def tasks() -> Iterator[tuple[Tensor, Tensor, Tensor, list[Tensor]]]:
            for chunk in torch.split(torch.arange(len(images)), together):
                draw = [torch.randn(draws, mus.shape[1], generator=noise) for _ in chunk]  # [k, L] for each image
                yield to_signal(images[chunk]), mus[chunk], logvars[chunk], draw

        found = []
        for result in parallel.ordered(lambda task: self._estimates(graphs, *task), tasks()):
            found.append(result)
            advance(len(result))
        return torch.cat(found)

    def _estimates(self, graphs: Graphs, x: Tensor, mu: Tensor, logvar: Tensor, noise: list[Tensor]) -> Tensor:
        """Estimates of log p(x), [n], from draws with this noise, [k, L] for each image."""
        z = torch.stack([m + torch.exp(0.5 * v) * eps for m, v, eps in zip(mu, logvar, noise, strict=True)], 1)
        count, draws = len(x), len(z)  # z is [k, n, L]
        flat = z.transpose(0, 1).reshape(count * draws, -1)  # the draws of one image lie one after another
        owner = torch.arange(count).repeat_interleave(draws)
        size = max(1, min(ROWS, PIXELS // x[0].numel()))
        distortions = [
            self.distortion(graphs.mean_image(rows), x[of])
            for rows, of in zip(torch.split(flat, size), torch.split(owner, size), strict=True)
        ]
        log_w = log_weights(mu, logvar, z, torch.cat(distortions).view(count, draws).T)  # [k, n]
        return log_w.logsumexp(0) - math.log(draws)


def _reconstructions(graphs: Graphs, images: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each chunk of images: x and x_hat, from one draw of the posterior, [n, *image_shape]; mu, logvar, [n, L]."""
    noise = torch.Generator().manual_seed(NOISE_SEED)
    for chunk in torch.split(images, CHUNK):
        mu, logvar = graphs.encode(chunk)
        yield to_signal(chunk), graphs.mean_image(reparametrise(mu, logvar, noise)), mu, logvar
