"""The defaults of samples, sharpness and temperature: chosen on the training images, and written into a bundle.

    python -m training sharpen models/mnist-mlp/2 --data-dir DIR

An export chooses them. The command above chooses them for a bundle that was exported before, without training, and
writes it as the next version: with these defaults, with the figures of samples measured anew, and with a new card.
Graphs, prior, statistics and all other figures stay.

Samples are judged by the Frechet distance to all training images, in the features of the first judge of the data set.
No test image is looked at, and the seed is another one than the evaluation's.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from service import contract
from training import card, card_text, data, figures, parallel, plots, rewrite, samples
from training.classifier import Classifier, Judges, hashes, judges_of
from training.data import Sets
from training.errors import TrainingError
from training.fidelity import Manifold, frechet_distance
from training.figures import FULL, Effort
from training.graphs import Graphs
from training.plots import Trade
from training.prior import Prior
from training.sampler import Sampler, sharpened
from training.steps import SILENT, Steps

SEED: Final = 1
SAMPLES: Final = 10_000

# The sharpnesses that are tried: those of a table, so that 1.1 is 1.1.
SHARPNESSES: Final = tuple(step / 20 for step in range(20, 41))

# The temperatures of the plot.
TEMPERATURES: Final = tuple(step / 20 for step in range(14, 23))
# Samples at this temperature are taken for their label more often, and are more alike. It is chosen where fewer than
# ENOUGH of the samples at temperature 1 are taken for their label, and if its distance is at most FARTHER times theirs.
# Still lower ones are not tried: where samples have other faults, the distance hardly says how much alike they are.
COOL: Final = 0.95
ENOUGH: Final = 0.985
FARTHER: Final = 1.3


@dataclass(frozen=True, slots=True)
class Choice:
    """The defaults of samples, and what each temperature would be worth at that sharpness."""

    sharpness: float
    temperature: float
    trade: Trade


def choose(
    graphs: Graphs,
    prior: Prior,
    images: Tensor,
    judges: Judges,
    *,
    effort: Effort = FULL,
    steps: Steps = SILENT,
) -> Choice:
    """Choose sharpness and temperature on training images, uint8 [N, *image_shape].

    The sharpness is that with the smallest distance at temperature 1: the curve corrects the decoder, not the prior.
    The temperature, COOL or 1, trades diversity for samples that look like their label. Recall is that of the first
    10,000 images.
    """
    judge = judges[figures.PREFIXES[0]]
    count = min(effort.test_images or SAMPLES, len(images))
    with (
        parallel.one_thread(),
        steps.step("sharpness and temperature", len(SHARPNESSES) + len(TEMPERATURES)) as advance,
    ):
        reference, _ = judge.classify(images.numpy())
        bare = Sampler(graphs, prior).images(count, SEED)
        distances = []
        for sharpness in SHARPNESSES:
            distances.append(frechet_distance(judge.classify(sharpened(bare, sharpness))[0], reference))
            advance(1)
        sharpness = SHARPNESSES[int(np.argmin(distances))]
        trade = {}
        for temperature in TEMPERATURES:
            sampler = Sampler(graphs, prior, sharpness, temperature)
            features, _ = judge.classify(sampler.images(count, SEED))
            trade[temperature] = {
                "Frechet distance": frechet_distance(features, reference),
                "label accuracy": label_accuracy(sampler, count, judge),
                "recall": Manifold.of(features).share_of(reference),
            }
            advance(1)
    farther = trade[COOL]["Frechet distance"] / trade[1.0]["Frechet distance"]
    cool = trade[1.0]["label accuracy"] < ENOUGH and farther <= FARTHER
    return Choice(sharpness, COOL if cool else 1.0, trade)


def label_accuracy(sampler: Sampler, count: int, judge: Classifier) -> float:
    """The share of samples that are taken for their label, 0 to 1, of about `count`, equally many of each label."""
    labels = sampler.prior.labels
    each = -(-count // len(labels))
    drawn = ((sampler.images(each, SEED, int(label)), np.full(each, label)) for label in labels)
    return float(np.mean([judge.accuracy(images, wanted) for images, wanted in drawn]))


def sharpen(folder: Path, sets: Sets, steps: Steps = SILENT) -> tuple[Path, Choice]:
    """Choose the defaults of the bundle in models/<name>/<version>, and write it as the next free version.

    Returns the folder of that version. Raises ExportError, in one sentence, when the files are not those of a bundle
    with a prior.
    """
    bundle, files = rewrite.read(folder)
    graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
    prior = Prior.from_bytes(files[contract.PRIOR_FILE])
    judges = judges_of(bundle.dataset, sets.train_images, sets.train_labels, steps)
    choice = choose(graphs, prior, sets.train_images, judges, steps=steps)
    sampler = Sampler(graphs, prior, choice.sharpness, choice.temperature)
    with parallel.one_thread():
        found = samples.figures(sampler, sets, judges, steps)
    bundle = dataclasses.replace(
        bundle,
        sharpness=choice.sharpness,
        temperature=choice.temperature,
        metrics=bundle.metrics | {name: round(value, figures.DIGITS) for name, value in found.items()},
        tools=bundle.tools | hashes(judges),
    )
    plotted = {card_text.TRADE: plots.trade(choice.trade, choice.temperature)}
    if card_text.CURVES in files:
        plotted[card_text.CURVES] = files[card_text.CURVES]
    files |= card.write(bundle, sampler, sets, plotted)
    return rewrite.publish(bundle, files, folder.parent), choice


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training sharpen",
        description="Choose the default sharpness and temperature of samples, and write the bundle as a new version.",
    )
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    data.add_option(parser)
    options = parser.parse_args(arguments)
    try:
        bundle, _ = rewrite.read(options.bundle)
        with Steps() as steps:
            sets = data.load_both(bundle.dataset, options.data_dir, steps)
            folder, choice = sharpen(options.bundle, sets, steps)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder} draws samples with sharpness {choice.sharpness:g} at temperature {choice.temperature:g}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
