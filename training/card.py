"""The model card: README.md of a bundle, written from the same numbers as its model.json, and its pictures."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from torch import Tensor

from service.contract import CARD_FILE, Contract
from training import data, pictures
from training.model import VAE
from training.recipe import RECIPES, Recipe, command

RECONSTRUCTIONS: Final = "reconstructions.png"
SAMPLES: Final = "samples.png"
SCALE: Final = 2

# What the notebook printed for single validation batches of 128 images, epochs 20 to 100, summed over the batch.
NOTEBOOK_BATCH: Final = 128
NOTEBOOK_PRINTED: Final = (9559.11719, 9738.88281, 9306.89160, 8693.73242, 9665.60938)


def report(recipe: Recipe, metrics: dict[str, float], tools: dict[str, str], git_commit: str) -> dict[str, Any]:
    """What metrics.json says of a run: its recipe, its figures on the test set, and what made them."""
    return {
        "command": command(recipe),
        "git_commit": git_commit,
        "metrics": metrics,
        "recipe": recipe.model_dump(),
        "tools": tools,
    }


def write(contract: Contract, model: VAE, images: Tensor, labels: Tensor) -> dict[str, bytes]:
    """The card and its pictures as files of the bundle, by name.

    `images`, uint8 [N, *image_shape], and `labels`, uint8 [N], are the test set.
    """
    shown = pictures.reconstructed(model, images[data.some_of_each_label(labels, 20)])
    samples = pictures.sampled(model, 100)
    return {
        CARD_FILE: text(contract).encode(),
        RECONSTRUCTIONS: pictures.png(pictures.above(*shown, columns=10), SCALE),
        SAMPLES: pictures.png(pictures.grid(samples, columns=10), SCALE),
    }


def text(contract: Contract) -> str:
    """The card in Markdown."""
    recipe = Recipe.model_validate(contract.recipe)
    dataset = data.DATASETS[contract.dataset]
    metrics = contract.metrics
    images = f"[N, {', '.join(map(str, contract.image_shape))}]"
    latents = f"[N, {contract.latent_dim}]"
    pixels = math.prod(contract.image_shape)
    printed = [batch / NOTEBOOK_BATCH for batch in NOTEBOOK_PRINTED]
    averaged = (
        f"weights averaged with a decay of {recipe.averaging_decay:g} per step"
        if recipe.averaging_decay
        else "weights not averaged"
    )
    rows = [row(f"**{contract.id}**", metrics)]
    rows += [row(f"recipe `{name}`, trained by this code", figures) for name, figures in _other_runs(recipe)]
    rows.append(
        f"| the notebook this follows, as it printed: single validation batches of {NOTEBOOK_BATCH} images | | | "
        f"{min(printed):.1f} to {max(printed):.1f} | | | |"
    )
    rows.append(
        f"| the best linear model with {contract.latent_dim} latents (probabilistic PCA of the training images, closed "
        f"form) | | | {metrics['linear_total']:.2f} | | | |"
    )
    return f"""# {contract.id}

A variational autoencoder of {dataset.title} images: an encoder from an image to the mean and log-variance of
{contract.latent_dim} latents, and a decoder back. It is a multilayer perceptron,
{pixels}-{recipe.hidden}-{contract.latent_dim}-{recipe.hidden}-{pixels} with ReLU and tanh, trained on the sum of
squared errors of pixels in [-1, 1] (distortion) plus the KL divergence to a standard normal prior (rate): the negative
evidence lower bound of a decoder with a fixed variance of 1/2, but for a constant.

![Test images, each row above its reconstructions]({RECONSTRUCTIONS})

*Test images, two of each label; below each row what the model makes of them.*

![Samples from the prior]({SAMPLES})

*Decoded draws from the prior N(0, I), unselected.*

## Figures

On the {dataset.title} test set, which training never saw. Distortion, rate and total are nats per image, lower is
better, with one draw from each posterior; mse and psnr are of images decoded from mu, pixels in [0, 1].

| | distortion | rate | total | mse | psnr (dB) | latents in use |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## How it was trained

    {command(recipe)}

{recipe.epochs} epochs of batches of {recipe.batch_size}; Adam, {recipe.schedule} learning rate, at most
{recipe.learning_rate:g}; {averaged}; seed {recipe.seed}; the last {recipe.validation_size:,} training images only
validated. `model.json` has the whole recipe, the versions of the tools and the commit of the code.

## Tensors

| graph | input | output |
|---|---|---|
| `encoder.onnx` | `image` uint8 {images} | `mu`, `logvar` float32 {latents} |
| `decoder.onnx` | `z` float32 {latents} | `image` uint8 {images}; `x_hat` float32 {images} in [-1, 1] |

Scaling from and to grey levels is inside the graphs, which draw no random numbers: z = mu + exp(logvar / 2) * noise is
the caller's. `golden.npz` has a few test images with the outputs PyTorch gave.

## Limits

- The fixed variance of 1/2 in [-1, 1] is far more noise than these pictures have, so the model pays for every detail it
  encodes: reconstructions are blurred.
- Samples from the prior are often poor: the codes of real images fill the prior unevenly.
- It knows {dataset.title} as it is, upright and centred, and gives an answer to any other picture too.
"""


def row(name: str, metrics: dict[str, float]) -> str:
    """A line of the card's table of figures."""
    return (
        f"| {name} | {metrics['distortion']:.2f} | {metrics['rate']:.2f} | {metrics['total']:.2f} | "
        f"{metrics['mse']:.5f} | {metrics['psnr']:.2f} | {metrics['active_units']:.0f} |"
    )


def _other_runs(recipe: Recipe) -> list[tuple[str, dict[str, float]]]:
    """Name and figures of the shipped runs to compare with: other recipes, same data set and objective."""
    reports = [json.loads(path.read_text()) for path in sorted(RECIPES.glob("*.metrics.json"))]
    return [
        (each["recipe"]["name"], each["metrics"])
        for each in reports
        if each["recipe"]["name"] != recipe.name
        and (each["recipe"]["dataset"], each["recipe"]["objective"]) == (recipe.dataset, recipe.objective)
    ]
