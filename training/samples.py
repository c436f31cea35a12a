"""The figures that are measured on samples of a bundle.

Each figure of random images is the mean of three draws, with the seeds 0, 1 and 2. Its `_spread` is the largest of the
three minus the smallest. Two classifiers judge: figures of the second have the same names after `second_`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from training.classifier import Judges
from training.data import Sets
from training.fidelity import Manifold, frechet_distance
from training.figures import SPREAD
from training.sampler import Sampler
from training.similarity import nearest
from training.steps import SILENT, Steps

SEEDS: Final = (0, 1, 2)
NEIGHBOURS: Final = 1_000  # images whose nearest training image is searched

Found = dict[str, float]
Pixels = npt.NDArray[np.uint8]


def figures(sampler: Sampler, sets: Sets, judges: Judges, steps: Steps = SILENT) -> Found:
    """All figures of samples."""
    return (
        set_figures(sampler, sets, judges, steps)
        | label_figures(sampler, sets, judges, steps)
        | neighbour_figures(sampler, sets, steps)
    )


def set_figures(sampler: Sampler, sets: Sets, judges: Judges, steps: Steps) -> Found:
    """How alike the test images and as many other images are, in the features of each judge.

    Frechet distances: `frechet_normal` and `frechet_aggregate` of samples from the normal and from the aggregate prior,
    `frechet_floor` of random training images, `frechet_reconstructions` of the test images' own reconstructions.
    `precision` and `recall` (see `training.fidelity`) of samples from the aggregate prior; `precision_training` and
    `recall_training` of the same training images.
    """
    images = sets.test_images
    count = len(images)
    sources: dict[str, Callable[[int], Pixels]] = {
        "floor": lambda seed: some_training_images(sets, count, seed),
        "aggregate": lambda seed: sampler.images(count, seed),
        "normal": lambda seed: sampler.normal(count, seed),
    }
    covered = {"floor": "_training", "aggregate": ""}  # the ends of the names of their precision and recall
    found: Found = {}
    with steps.step("samples and test images", len(sources) * len(SEEDS) + 1) as advance:
        real = {prefix: judge.classify(images.numpy())[0] for prefix, judge in judges.items()}
        manifolds = {prefix: Manifold.of(features) for prefix, features in real.items()}
        reconstructions = sampler.graphs.images(sampler.graphs.encode(images)[0].numpy())
        for prefix, judge in judges.items():
            features = judge.classify(reconstructions)[0]
            found[f"{prefix}frechet_reconstructions"] = frechet_distance(features, real[prefix])
        advance(1)
        draws: dict[str, list[float]] = {}
        for name, source in sources.items():
            for seed in SEEDS:
                drawn = source(seed)
                for prefix, judge in judges.items():
                    features = judge.classify(drawn)[0]
                    measured = {f"frechet_{name}": frechet_distance(features, real[prefix])}
                    if name in covered:
                        measured[f"precision{covered[name]}"] = manifolds[prefix].share_of(features)
                        measured[f"recall{covered[name]}"] = Manifold.of(features).share_of(real[prefix])
                    for figure, value in measured.items():
                        draws.setdefault(prefix + figure, []).append(value)
                advance(1)
    for figure, values in draws.items():
        found |= _of_draws(figure, values)
    return found


def label_figures(sampler: Sampler, sets: Sets, judges: Judges, steps: Steps) -> Found:
    """How many samples of a label a judge takes for that label, 0 to 1.

    `label_accuracy`: the share over equally many samples of each label. `label_accuracy_worst`: the share for the worst
    label. `classifier_accuracy`: the judge's share of right answers on the test images.
    """
    each = -(-len(sets.test_images) // len(sampler.prior.labels))
    accuracies = np.empty((len(judges), len(SEEDS), len(sampler.prior.labels)))
    with steps.step("samples of each label", len(sampler.prior.labels)) as advance:
        for column, label in enumerate(sampler.prior.labels):
            for row, seed in enumerate(SEEDS):
                drawn = sampler.images(each, seed, int(label))
                for index, judge in enumerate(judges.values()):
                    accuracies[index, row, column] = judge.accuracy(drawn, np.full(each, label))
            advance(1)
    found: Found = {}
    for (prefix, judge), shares in zip(judges.items(), accuracies, strict=True):
        found |= _of_draws(f"{prefix}label_accuracy", shares.mean(1).tolist())
        found[f"{prefix}label_accuracy_worst"] = float(shares.mean(0).min())
        found[f"{prefix}classifier_accuracy"] = judge.accuracy(sets.test_images.numpy(), sets.test_labels.numpy())
    return found


def neighbour_figures(sampler: Sampler, sets: Sets, steps: Steps) -> Found:
    """How far images are from the nearest training image: the root mean squared difference, pixels in [0, 1].

    `nearest_samples` is the mean over samples from the aggregate prior, `nearest_test` the mean over test images. The
    samples of a model that repeats its training images are far nearer than test images are.
    """
    drawn = torch.from_numpy(sampler.images(len(sets.test_images), SEEDS[0])[:NEIGHBOURS])
    with steps.step("nearest training images", 2 * len(sets.train_images)) as advance:
        return {
            "nearest_samples": nearest(drawn, sets.train_images, advance),
            "nearest_test": nearest(sets.test_images[:NEIGHBOURS], sets.train_images, advance),
        }


def some_training_images(sets: Sets, count: int, seed: int) -> Pixels:
    """Random training images without repetition: uint8 [count, *image_shape], or all where there are fewer."""
    available = len(sets.train_images)
    chosen = np.random.Generator(np.random.PCG64(seed)).choice(available, min(count, available), replace=False)
    pixels: Pixels = sets.train_images.numpy()[chosen]
    return pixels


def _of_draws(name: str, values: Sequence[float]) -> Found:
    """The mean of a figure over the draws, and its spread."""
    return {name: float(np.mean(values)), name + SPREAD: max(values) - min(values)}
