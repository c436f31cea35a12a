"""Evaluation: the figures of a bundle, measured on its ONNX graphs, which are what the service runs.

    python -m training evaluate models/mnist-mlp/2 --data-dir DIR          (also: python -m training.evaluate ...)

Measures every figure again on the whole test set, prints all as JSON, and says whether they are the bundle's own. Noise
comes from generators with fixed seeds, so equal bundles have equal figures. Figures are means over images. Those in
nats are of the recipe's own objective.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service import contract
from service.contract import Contract
from training import data, figures, parallel
from training.classifier import Classifier, classifier_of, frechet_distance
from training.data import Sets
from training.errors import TrainingError
from training.figures import FULL, QUICK, Effort
from training.graphs import CHUNK, Graphs
from training.likelihood import Likelihood
from training.linear import LinearVAE
from training.model import to_signal
from training.objective import distortion
from training.prior import Prior
from training.recipe import Recipe, recorded
from training.sampler import Sampler
from training.similarity import nearest, structural_similarity
from training.steps import SILENT, Steps

SAMPLE_SEED: Final = 0
# A latent is in use when its mu varies between images by more than this (Burda et al. 2016, section 5.2).
ACTIVE_VARIANCE: Final = 0.01
NEIGHBOURS: Final = 1_000  # images whose nearest training image is searched

Found = dict[str, float]
Pixels = npt.NDArray[np.uint8]


def evaluate(
    sampler: Sampler,
    recipe: Recipe,
    sets: Sets,
    classifier: Classifier,
    *,
    effort: Effort = FULL,
    steps: Steps = SILENT,
) -> Found:
    """All figures of a bundle on the test set, rounded to five digits after the point.

    The functions below say what each group of figures is. `classifier` is that of the data set. `weights` and
    `onnx_bytes` are the size of both graphs. `test_images` is there only where test images are so few that the figures
    are rough.
    """
    sets, graphs = effort.of(sets), sampler.graphs
    with parallel.one_thread():
        found = (
            likelihood_figures(graphs, recipe, sets, effort.draws_of(recipe), steps)
            | reconstruction_figures(graphs, sets, steps)
            | {"weights": float(graphs.weights), "onnx_bytes": float(graphs.bytes)}
            | figures_of_samples(sampler, sets, classifier, steps)
        )
    if figures.warning(len(sets.test_images)):
        found["test_images"] = float(len(sets.test_images))
    return {name: round(value, figures.DIGITS) for name, value in found.items()}


def figures_of_samples(sampler: Sampler, sets: Sets, classifier: Classifier, steps: Steps) -> Found:
    """All figures that depend on how samples are drawn, with the defaults of the bundle; not rounded."""
    return (
        sample_figures(sampler, sets, classifier, steps)
        | label_figures(sampler, sets, classifier, steps)
        | neighbour_figures(sampler, sets, steps)
    )


def likelihood_figures(graphs: Graphs, recipe: Recipe, sets: Sets, draws: int, steps: Steps) -> Found:
    """How likely the test images are; in nats, lower is better.

    `distortion`, `rate` and their sum `total`: with one draw from each posterior. `nll`: the importance-weighted
    estimate of -log p(x), in the same units. `linear_total` (squared-error only): the total of the best linear model
    with as many latents, fitted on the training images. `decoder_std` (calibrated only): for pixels in [-1, 1].
    """
    images = sets.test_images
    with steps.step("distortion and rate"):
        likelihood = Likelihood.of(graphs, recipe, sets.train_images)
        shown = likelihood.shown(images)
        distortions, rates = likelihood.terms(graphs, shown)
    with steps.step(f"nll, {draws:,} draws an image", len(images)) as advance:
        log_likelihoods = likelihood.log_likelihood(graphs, shown, draws, advance)
    found = {
        "distortion": distortions.mean().item(),
        "rate": rates.mean().item(),
        "total": (distortions + rates).mean().item(),
        "nll": -log_likelihoods.mean().item(),
    }
    if recipe.objective == "squared-error":
        with steps.step("best linear model"):
            found["linear_total"] = LinearVAE.fit(sets.train_images, recipe.latent_dim).score(images).total
    if likelihood.variance is not None:
        found["decoder_std"] = math.sqrt(likelihood.variance)
    return found


def reconstruction_figures(graphs: Graphs, sets: Sets, steps: Steps) -> Found:
    """How close images that are decoded from mu come to the test images, before rounding to grey levels.

    Pixels are in [0, 1]: `mse`; `psnr` in dB, of that mean; `ssim`, -1 to 1. `active_units`: how many latents are in
    use.
    """
    images = sets.test_images
    with steps.step("reconstructions", len(images)) as advance:
        mu, _ = graphs.encode(images)
        squares, similarities = 0.0, []

        def compare(pair: tuple[Tensor, Tensor]) -> tuple[float, Tensor]:
            x, z = pair
            x_hat = graphs.mean_image(z)
            error = distortion(x_hat, to_signal(x)).double().sum().item()
            return error, structural_similarity((x_hat + 1) / 2, x / 255)

        pairs = zip(torch.split(images, CHUNK), torch.split(mu, CHUNK), strict=True)
        for error, similarity in parallel.ordered(compare, pairs):
            squares += error
            similarities.append(similarity)
            advance(len(similarity))
    mse = squares / images.numel() / 4  # [-1, 1] is twice as wide as [0, 1]
    return {
        "mse": mse,
        "psnr": -10 * math.log10(mse),
        "ssim": torch.cat(similarities).mean().item(),
        "active_units": float((mu.var(dim=0) > ACTIVE_VARIANCE).sum()),
    }


def sample_figures(sampler: Sampler, sets: Sets, classifier: Classifier, steps: Steps) -> Found:
    """Frechet distances from the test images to as many other images, in the classifier's features.

    `frechet_normal` and `frechet_aggregate`: samples from the normal and from the aggregate prior.
    `frechet_reconstructions`: the test images' own reconstructions. `frechet_floor`: training images.
    """
    images, graphs = sets.test_images, sampler.graphs
    count = len(images)
    sources: dict[str, Callable[[], Pixels]] = {
        "floor": lambda: _pixels(sets.train_images[:count]),
        "reconstructions": lambda: graphs.images(graphs.encode(images)[0].numpy()),
        "normal": lambda: sampler.normal(count, SAMPLE_SEED),
        "aggregate": lambda: sampler.images(count, SAMPLE_SEED),
    }
    found = {}
    with steps.step("Frechet distances", len(sources)) as advance:
        reference, _ = classifier.classify(images.numpy())
        for name, source in sources.items():
            found[f"frechet_{name}"] = frechet_distance(classifier.classify(source())[0], reference)
            advance(1)
    return found


def _pixels(images: Tensor) -> Pixels:
    pixels: Pixels = images.numpy()
    return pixels


def label_figures(sampler: Sampler, sets: Sets, classifier: Classifier, steps: Steps) -> Found:
    """How many samples of a label the classifier takes for that label, 0 to 1.

    `label_accuracy`: the share over equally many samples of each label. `label_accuracy_worst`: the share for the worst
    label. `classifier_accuracy`: its share of right answers on the test images.
    """
    with steps.step("samples of each label", len(sampler.prior.labels)) as advance:
        accuracies = label_accuracies(sampler, len(sets.test_images), SAMPLE_SEED, classifier, advance)
    return {
        "label_accuracy": float(np.mean(accuracies)),
        "label_accuracy_worst": min(accuracies),
        "classifier_accuracy": classifier.accuracy(sets.test_images.numpy(), sets.test_labels.numpy()),
    }


def label_accuracies(
    sampler: Sampler, count: int, seed: int, classifier: Classifier, advance: Callable[[int], None] = lambda _: None
) -> list[float]:
    """For each label the share of its samples that are taken for it, 0 to 1, of about `count` samples of all labels."""
    labels = sampler.prior.labels
    each = -(-count // len(labels))
    accuracies = []
    for label in labels:
        accuracies.append(classifier.accuracy(sampler.images(each, seed, int(label)), np.full(each, label)))
        advance(1)
    return accuracies


def neighbour_figures(sampler: Sampler, sets: Sets, steps: Steps) -> Found:
    """How far images are from the nearest training image: the root mean squared difference, pixels in [0, 1].

    `nearest_samples` is the mean over samples from the aggregate prior, `nearest_test` the mean over test images. The
    samples of a model that repeats its training images are far nearer than test images are.
    """
    count = len(sets.test_images)
    samples = torch.from_numpy(sampler.images(count, SAMPLE_SEED)[:NEIGHBOURS].copy())  # PyTorch wants them writable
    with steps.step("nearest training images", 2 * len(sets.train_images)) as advance:
        return {
            "nearest_samples": nearest(samples, sets.train_images, advance),
            "nearest_test": nearest(sets.test_images[:NEIGHBOURS], sets.train_images, advance),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status: 0 when the bundle's own figures are what is measured, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate", description="Measure the figures of a bundle again."
    )
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    parser.add_argument(
        "--data-dir", type=Path, help="directory of the data set's files; without it they are downloaded"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer images and draws, for a first look; compares with nothing"
    )
    options = parser.parse_args(arguments)
    folder: Path = options.bundle
    try:
        return _measure(folder, options.data_dir, quick=options.quick)
    except (OSError, ValueError) as error:
        print(f"{folder} is not a bundle that can be evaluated: {error}.", file=sys.stderr)
    except TrainingError as error:
        print(error, file=sys.stderr)
    return 1


def _measure(folder: Path, data_dir: Path | None, *, quick: bool) -> int:
    bundle = Contract.from_json((folder / contract.CONTRACT_FILE).read_bytes())
    recipe = recorded(bundle.recipe, "The bundle's recipe")
    graphs = Graphs((folder / contract.ENCODER_FILE).read_bytes(), (folder / contract.DECODER_FILE).read_bytes())
    prior = Prior.from_bytes((folder / contract.PRIOR_FILE).read_bytes())
    with Steps() as steps:
        sets = data.load_both(recipe.dataset, data_dir, steps)
        classifier = classifier_of(recipe.dataset, sets.train_images, sets.train_labels, steps)
        sampler = Sampler(graphs, prior, bundle.sharpness, bundle.temperature)
        found = evaluate(sampler, recipe, sets, classifier, effort=QUICK if quick else FULL, steps=steps)
    print(json.dumps(found, indent=2))
    if quick:
        print(figures.look(sets, recipe), file=sys.stderr)
        return 0
    if sentence := figures.warning(len(sets.test_images)):
        print(sentence, file=sys.stderr)
    if others := figures.differing(found, bundle.metrics):
        print(f"{folder} has other figures: {', '.join(others)}.", file=sys.stderr)
        return 1
    print(f"The figures of {folder} are what was measured.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
