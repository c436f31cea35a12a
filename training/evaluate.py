"""The judge: what a bundle is worth, measured on its ONNX graphs, which are what the service runs.

    python -m training.evaluate models/mnist-mlp/2 --data-dir DIR

Prints every figure as JSON, measured anew on the whole test set, and says whether the bundle's own are the same. Noise
comes from generators with fixed seeds, so the same bundle always scores the same. Figures are means over images; those
in nats are of the recipe's own objective.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from service import contract
from service.contract import Contract
from training import classifier, data, onnx_graph
from training.classifier import Classifier, frechet_distance
from training.data import Sets
from training.errors import TrainingError
from training.linear import LinearVAE
from training.model import to_signal
from training.objective import binarise, distortion, gaussian_distortion, log_weights, rate, reparametrise
from training.prior import Prior
from training.recipe import Recipe, validated

EVALUATION_SEED: Final = 0
CHUNK: Final = 1_000  # images at a time: a few megabytes, whatever the set's size
# A latent is in use when its mu varies from image to image by more than this (Burda et al. 2016, section 5.2).
ACTIVE_VARIANCE: Final = 0.01
# Draws for the importance-weighted log-likelihood: for binarised images as in the literature (Burda et al. 2016).
IMPORTANCE_SAMPLES: Final = 100
IMPORTANCE_SAMPLES_BERNOULLI: Final = 5_000
# A probability read off x_hat in float32 is no closer to 0 than this: the likelihood is that of p kept within.
LEAST_PROBABILITY: Final = 1e-6
NEIGHBOURS: Final = 1_000  # samples whose nearest training image is looked for

Array = npt.NDArray[Any]


class Graphs:
    """A bundle's encoder and decoder in onnxruntime, on the CPU."""

    def __init__(self, encoder: bytes, decoder: bytes) -> None:
        self.bytes = len(encoder) + len(decoder)
        self.weights = _weights(encoder) + _weights(decoder)
        self._encoder = onnx_graph.session(encoder)
        self._decoder = onnx_graph.session(decoder)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of uint8 images [N, *image_shape]: mu and logvar, float32 [N, L]."""
        names = [contract.MU, contract.LOGVAR]
        chunks = [self._encoder.run(names, {contract.IMAGE: chunk.numpy()}) for chunk in torch.split(images, CHUNK)]
        mu, logvar = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*chunks, strict=True))
        return mu, logvar

    def mean_image(self, z: Tensor) -> Tensor:
        """What the decoder makes of z [N, L], float32 [N, *image_shape] in [-1, 1]."""
        (x_hat,) = self._decoder.run([contract.X_HAT], {contract.Z: z.numpy()})
        return torch.from_numpy(x_hat)

    def images(self, z: Array) -> npt.NDArray[np.uint8]:
        """The same in grey levels, uint8 [N, *image_shape]."""
        chunks = [
            self._decoder.run([contract.IMAGE], {contract.Z: z[start : start + CHUNK]})[0]
            for start in range(0, len(z), CHUNK)
        ]
        return np.concatenate(chunks)


def evaluate(graphs: Graphs, recipe: Recipe, prior: Prior, sets: Sets, judge: Classifier) -> dict[str, float]:
    """Everything a bundle says of its quality, on the test set.

    In nats, lower is better: `distortion`, `rate` and their sum `total`, with one draw from each posterior; `nll`, the
    importance-weighted estimate of -log p(x), in the same units; `linear_total` (squared-error only), what the best
    linear model of as many latents, fitted on the training images, scores; `decoder_std` (calibrated only), in [-1, 1].

    Of images decoded from mu, pixels in [0, 1], before rounding to grey levels: `mse`; `psnr` in dB, of that mean;
    `ssim`, -1 to 1. `active_units`: how many latents are in use. `weights`, `onnx_bytes`: how large both graphs are.

    Of as many samples as there are test images, by the judge: `frechet_normal` and `frechet_aggregate`, how far samples
    of each prior lie from the test images; beside them `frechet_reconstructions` and `frechet_floor`, that of as many
    training images; `label_accuracy`, the share of samples of a label, equally many of each, that are taken for it, and
    `label_accuracy_worst`, that of the worst label; `classifier_accuracy`, the judge's own on the test images.

    `nearest_samples`, `nearest_test`: the root mean squared difference, pixels in [0, 1], to the nearest training
    image, a mean over aggregate samples and over test images; a model that repeats what it was trained on has samples
    far nearer than test images are.
    """
    images, labels = sets.test_images, sets.test_labels.numpy()
    likelihood = Likelihood.of(graphs, recipe, sets.train_images)
    shown = likelihood.shown(images)
    distortions, rates = likelihood.terms(graphs, shown)
    figures = {
        "distortion": distortions.mean().item(),
        "rate": rates.mean().item(),
        "total": (distortions + rates).mean().item(),
        "nll": -likelihood.log_likelihood(graphs, shown).mean().item(),
    }
    if recipe.objective == "squared-error":
        figures["linear_total"] = LinearVAE.fit(sets.train_images, recipe.latent_dim).score(images).total
    if likelihood.variance is not None:
        figures["decoder_std"] = math.sqrt(likelihood.variance)

    mu, _ = graphs.encode(images)
    x_hat = torch.cat([graphs.mean_image(chunk) for chunk in torch.split(mu, CHUNK)])
    mse = distortion(x_hat, to_signal(images)).sum().item() / images.numel() / 4  # [-1, 1] is twice as wide as [0, 1]
    figures |= {
        "mse": mse,
        "psnr": -10 * math.log10(mse),
        "ssim": structural_similarity((x_hat + 1) / 2, images / 255).mean().item(),
        "active_units": float((mu.var(dim=0) > ACTIVE_VARIANCE).sum()),
        "weights": float(graphs.weights),
        "onnx_bytes": float(graphs.bytes),
    }

    count = len(images)
    reference, _ = judge.judge(images.numpy())
    normal = np.random.Generator(np.random.PCG64(EVALUATION_SEED)).standard_normal(
        (count, recipe.latent_dim), np.float32
    )
    aggregate = graphs.images(prior.draw(count, EVALUATION_SEED))
    sources = {
        "floor": sets.train_images[:count].numpy(),
        "reconstructions": graphs.images(mu.numpy()),
        "normal": graphs.images(normal),
        "aggregate": aggregate,
    }
    for name, source in sources.items():
        figures[f"frechet_{name}"] = frechet_distance(judge.judge(source)[0], reference)
    each = -(-count // len(prior.labels))
    accuracies = [
        judge.accuracy(graphs.images(prior.draw(each, EVALUATION_SEED, int(label))), np.full(each, label))
        for label in prior.labels
    ]
    figures |= {
        "label_accuracy": float(np.mean(accuracies)),
        "label_accuracy_worst": min(accuracies),
        "classifier_accuracy": judge.accuracy(images.numpy(), labels),
        "nearest_samples": nearest(torch.from_numpy(aggregate[:NEIGHBOURS]), sets.train_images),
        "nearest_test": nearest(images[:NEIGHBOURS], sets.train_images),
    }
    return {name: round(value, 5) for name, value in figures.items()}  # what sums of float32 can tell


@dataclass(frozen=True, slots=True)
class Likelihood:
    """p(x|z) of a recipe's objective, from the decoder's mean images. `variance` is the calibrated one, else None."""

    recipe: Recipe
    variance: float | None = None

    @classmethod
    def of(cls, graphs: Graphs, recipe: Recipe, train_images: Tensor) -> Likelihood:
        """A calibrated variance is the mean squared error of training images decoded from draws: the likeliest one."""
        if recipe.objective != "calibrated":
            return cls(recipe)
        squares = cls(recipe, 1.0)._squared_errors(graphs, train_images)
        return cls(recipe, squares.double().mean().item() / train_images[0].numel())

    def shown(self, images: Tensor) -> Tensor:
        """What the objective is of: uint8 images as they are, or each pixel drawn black or white, once for all."""
        if self.recipe.objective != "bernoulli":
            return images
        white = binarise(images, torch.Generator().manual_seed(EVALUATION_SEED)) > 0
        return white.to(torch.uint8) * 255

    def distortion(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) of each image, both [N, ...] in [-1, 1]: [N], in nats, constants as in training.objective."""
        if self.recipe.objective == "bernoulli":  # x is -1 or 1: the probability of what is seen
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

    def log_likelihood(self, graphs: Graphs, images: Tensor, samples: int | None = None) -> Tensor:
        """Estimates of log p(x) for uint8 images [N, *image_shape]: float32 [N], in nats.

        log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) over k draws from the posterior (Burda et al. 2016, equation 8): a
        lower bound on average, which rises with k.
        """
        bernoulli = self.recipe.objective == "bernoulli"
        samples = samples or (IMPORTANCE_SAMPLES_BERNOULLI if bernoulli else IMPORTANCE_SAMPLES)
        noise = torch.Generator().manual_seed(EVALUATION_SEED)
        mus, logvars = graphs.encode(images)
        together = min(500, samples)  # rows that stay in the cache between decoder and likelihood
        found = []
        for image, mu, logvar in zip(to_signal(images), mus, logvars, strict=True):
            z = reparametrise(mu.expand(samples, -1), logvar.expand(samples, -1), noise)  # [k, L]
            distortions = torch.cat(
                [
                    self.distortion(x_hat, image.expand_as(x_hat))
                    for x_hat in map(graphs.mean_image, torch.split(z, together))
                ]
            )
            log_w = log_weights(mu[None], logvar[None], z[:, None], distortions[:, None])  # [k, 1]
            found.append(log_w.logsumexp(0) - math.log(samples))
        return torch.cat(found)

    def _squared_errors(self, graphs: Graphs, images: Tensor) -> Tensor:
        return torch.cat([distortion(x_hat, x) for x, x_hat, _, _ in _reconstructions(graphs, images)])


def _reconstructions(graphs: Graphs, images: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """By chunks: x, and x_hat from one draw of the posterior, [n, *image_shape]; mu and logvar, [n, L]."""
    noise = torch.Generator().manual_seed(EVALUATION_SEED)
    for chunk in torch.split(images, CHUNK):
        mu, logvar = graphs.encode(chunk)
        yield to_signal(chunk), graphs.mean_image(reparametrise(mu, logvar, noise)), mu, logvar


def structural_similarity(one: Tensor, other: Tensor) -> Tensor:
    """SSIM of images [N, H, W] or [N, H, W, 3], pixels in [0, 1], colours on their own: [N], -1 to 1.

    Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity: a Gaussian window of 11
    pixels and 1.5 standard deviation (smaller where the image is), K1 = 0.01, K2 = 0.03.
    """
    first, second = (each.permute(0, 3, 1, 2) if each.ndim == 4 else each.unsqueeze(1) for each in (one, other))
    side = min(11, *first.shape[2:])
    ramp = torch.exp(-((torch.arange(side) - (side - 1) / 2) ** 2) / (2 * 1.5**2))
    window = (ramp[:, None] * ramp / ramp.sum() ** 2)[None, None]  # [1, 1, side, side]

    def blurred(image: Tensor) -> Tensor:
        return F.conv2d(image.flatten(0, 1).unsqueeze(1), window).view(*image.shape[:2], -1)

    means = blurred(first), blurred(second)
    variances = blurred(first**2) - means[0] ** 2, blurred(second**2) - means[1] ** 2
    covariance = blurred(first * second) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * means[0] * means[1] + c1) * (2 * covariance + c2)) / (
        (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    )
    return similarity.mean((1, 2))


def nearest(images: Tensor, training: Tensor) -> float:
    """The root mean squared difference to the nearest training image, pixels in [0, 1]; the mean over the images.

    Both uint8 [N, *image_shape].
    """
    pixels = images.flatten(1) / 255  # [N, D]
    squares = torch.full((len(images),), math.inf)
    for chunk in torch.split(training, CHUNK):
        known = chunk.flatten(1) / 255  # [n, D]
        apart = pixels.square().sum(1, keepdim=True) - 2 * pixels @ known.T + known.square().sum(1)  # [N, n]
        squares = torch.minimum(squares, apart.amin(1))
    return (squares.clamp(min=0) / pixels.shape[1]).sqrt().mean().item()


def _weights(graph: bytes) -> int:
    """How many numbers a graph has learned: those of its constants that are vectors and matrices of float32."""
    constants = onnx.load_from_string(graph).graph.initializer
    return sum(math.prod(each.dims) for each in constants if each.dims and each.data_type == onnx.TensorProto.FLOAT)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status: 0 when the bundle's figures are what is measured, else 1."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description="Measure a bundle anew.")
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    parser.add_argument("--data-dir", type=Path, help="directory of the data set; without it MNIST is downloaded")
    options = parser.parse_args(arguments)
    folder: Path = options.bundle
    try:
        bundle = Contract.from_json((folder / contract.CONTRACT_FILE).read_bytes())
        recipe = validated(bundle.recipe, "The bundle's recipe")
        sets = data.load_both(recipe.dataset, options.data_dir)
        judge = classifier.judge_of(recipe.dataset, sets.train_images, sets.train_labels)
        graphs = Graphs((folder / contract.ENCODER_FILE).read_bytes(), (folder / contract.DECODER_FILE).read_bytes())
        prior = Prior.from_bytes((folder / contract.PRIOR_FILE).read_bytes())
        figures = evaluate(graphs, recipe, prior, sets, judge)
    except (OSError, ValueError) as error:
        print(f"{folder} is not a bundle that can be judged: {error}.", file=sys.stderr)
        return 1
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2))
    differing = [name for name in figures if figures[name] != bundle.metrics.get(name)]
    if differing:
        print(f"{folder} says something else of {', '.join(differing)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
