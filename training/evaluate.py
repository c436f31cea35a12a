"""Evaluation: the figures of a bundle, measured on its ONNX graphs, which are what the service runs.

    python -m training evaluate models/mnist-mlp/2 --data-dir DIR          (also: python -m training.evaluate ...)

Measures every figure again on the whole test set, prints all as JSON, and says whether they are the bundle's own. With
--overwrite it writes them into model.json, and the card and its pictures again: for a bundle that was exported when
other figures were measured. Graphs, prior and version stay as they are. Noise comes from generators with fixed seeds,
so equal bundles have equal figures. Figures are means over images. Those in nats are of the recipe's own objective.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from service import contract
from service.contract import Contract
from training import card, card_text, data, figures, parallel, rewrite, samples, versions
from training.classifier import Judges, hashes, judges_of
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
from training.similarity import structural_similarity
from training.steps import SILENT, Steps

# A latent is in use when its mu varies between images by more than this (Burda et al. 2016, section 5.2).
ACTIVE_VARIANCE: Final = 0.01

Found = dict[str, float]


def evaluate(
    sampler: Sampler,
    recipe: Recipe,
    sets: Sets,
    judges: Judges,
    *,
    effort: Effort = FULL,
    steps: Steps = SILENT,
) -> Found:
    """All figures of a bundle on the test set, rounded to five digits after the point.

    The functions below and those of `training.samples` say what each group of figures is. `judges` are those of the
    data set. `weights` and `onnx_bytes` are the size of both graphs. `test_images` is there only where test images are
    so few that the figures are rough.
    """
    sets, graphs = effort.of(sets), sampler.graphs
    with parallel.one_thread():
        found = (
            likelihood_figures(graphs, recipe, sets, effort.draws_of(recipe), steps)
            | reconstruction_figures(graphs, sets, steps)
            | {"weights": float(graphs.weights), "onnx_bytes": float(graphs.bytes)}
            | samples.figures(sampler, sets, judges, steps)
        )
    if figures.warning(len(sets.test_images)):
        found["test_images"] = float(len(sets.test_images))
    return {name: round(value, figures.DIGITS) for name, value in found.items()}


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


def renew(folder: Path, found: Found, sampler: Sampler, sets: Sets, judges: Judges) -> None:
    """Write these figures into a bundle's model.json, and its card and pictures again, at once or not at all.

    The pictures in `card_text.PLOTTED` stay as they are. So does the commit in model.json, which is that of the graphs.
    Raises ExportError, in one sentence, when a file is not what model.json
    says.
    """
    bundle, files = rewrite.read(folder)
    bundle = dataclasses.replace(bundle, metrics=found, tools=bundle.tools | hashes(judges))
    plotted = {name: files[name] for name in card_text.PLOTTED if name in files}
    files |= card.write(bundle, sampler, sets, plotted)
    versions.publish(rewrite.with_contract(bundle, files), folder, overwrite=True)


def refinement_figures(graphs: Graphs, unrefined: Graphs, recipe: Recipe, sets: Sets) -> Found:
    """What the refinement of the posteriors gains, and what it costs.

    `total_unrefined`: the total with the encoder as it was trained. `images_per_second` and
    `images_per_second_unrefined`: how many images one thread encodes.
    """
    images = sets.test_images
    likelihood = Likelihood.of(unrefined, recipe, sets.train_images)
    with parallel.one_thread():
        total = torch.stack(likelihood.terms(unrefined, likelihood.shown(images))).sum(0).mean().item()
        found = {
            figures.TOTAL_UNREFINED: total,
            figures.SPEED: graphs.images_per_second(images),
            figures.SPEED_UNREFINED: unrefined.images_per_second(images),
        }
    return {name: round(value, figures.DIGITS) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status: 0 when the bundle's own figures are what is measured, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate", description="Measure the figures of a bundle again."
    )
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    data.add_option(parser)
    parser.add_argument(
        "--quick", action="store_true", help="fewer images and draws, for a first look; compares with nothing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="write what is measured into the bundle's model.json and card"
    )
    options = parser.parse_args(arguments)
    if options.quick and options.overwrite:
        parser.error("--quick measures nothing that --overwrite could write: give one of them.")
    folder: Path = options.bundle
    try:
        return _measure(folder, options.data_dir, quick=options.quick, overwrite=options.overwrite)
    except (OSError, ValueError) as error:
        print(f"{folder} is not a bundle that can be evaluated: {error}.", file=sys.stderr)
    except TrainingError as error:
        print(error, file=sys.stderr)
    return 1


def _measure(folder: Path, data_dir: Path | None, *, quick: bool, overwrite: bool) -> int:
    bundle = Contract.from_json((folder / contract.CONTRACT_FILE).read_bytes())
    recipe = recorded(bundle.recipe, "The bundle's recipe")
    graphs = Graphs((folder / contract.ENCODER_FILE).read_bytes(), (folder / contract.DECODER_FILE).read_bytes())
    prior = Prior.from_bytes((folder / contract.PRIOR_FILE).read_bytes())
    with Steps() as steps:
        sets = data.load_both(recipe.dataset, data_dir, steps)
        judges = judges_of(recipe.dataset, sets.train_images, sets.train_labels, steps)
        sampler = Sampler(graphs, prior, bundle.sharpness, bundle.temperature)
        found = evaluate(sampler, recipe, sets, judges, effort=QUICK if quick else FULL, steps=steps)
        if overwrite:
            with steps.step("card and pictures"):
                renew(folder, found, sampler, sets, judges)
    print(json.dumps(found, indent=2))
    if quick:
        print(figures.look(sets, recipe), file=sys.stderr)
        return 0
    if sentence := figures.warning(len(sets.test_images)):
        print(sentence, file=sys.stderr)
    if overwrite:
        print(f"The figures and the card of {folder} are what was measured now.", file=sys.stderr)
        return 0
    if others := figures.differing(found, bundle.metrics):
        print(f"{folder} has other figures: {', '.join(others)}.", file=sys.stderr)
        return 1
    print(f"The figures of {folder} are what was measured.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
