"""The statistics of a bundle: what the service needs to score an image, in statistics.npz.

    python -m training statistics models/mnist-mlp/2 --data-dir DIR --overwrite

An export writes them. The command above adds them, and the map of the latents (map.json), to a bundle that was exported
before, without training: they are computed from the bundle's own graphs. Every other file stays as it is, and so does
the commit in model.json, because it is that of the graphs. The result is what an export of the same weights writes.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service import contract
from training import data, rewrite
from training.data import Sets
from training.density import Density
from training.errors import TrainingError
from training.graphs import CHUNK, Graphs
from training.latent_map import LatentMap
from training.likelihood import Likelihood
from training.model import to_signal
from training.objective import distortion, rates
from training.prior import Prior
from training.recipe import Recipe, recorded
from training.steps import SILENT, Steps

QUANTILES: Final = 1_000  # of the surprisal; fewer where there are fewer test images

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bundle's graphs say of N images: `mu` [N, L], `squared_error` [N], and `rates` [N, L], all float32.

    The squared error is that of the image decoded from mu, for pixels in [-1, 1].
    """

    mu: Floats
    squared_error: Floats
    rates: Floats

    @classmethod
    def of(cls, graphs: Graphs, images: Tensor) -> Terms:
        """The terms of uint8 images [N, *image_shape]."""
        found = []
        for chunk in torch.split(images, CHUNK):
            mu, logvar = graphs.encode(chunk)
            error = distortion(graphs.mean_image(mu), to_signal(chunk))
            found.append((mu.numpy(), error.numpy(), rates(mu, logvar).numpy()))
        return cls(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

    @property
    def logarithms(self) -> npt.NDArray[np.float64]:
        """log(1 + squared error) and log(1 + rate): [N, 2]."""
        terms = np.stack([self.squared_error, self.rates.sum(1)], axis=1)
        return np.log1p(terms.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Statistics:
    """The arrays of statistics.npz, as `service.contract` describes them, all float32."""

    rate: Floats
    mu_mean: Floats
    mu_std: Floats
    term_means: Floats
    term_cholesky: Floats
    surprisals: Floats
    variance: Floats

    @classmethod
    def measure(cls, graphs: Graphs, recipe: Recipe, prior: Prior, sets: Sets, steps: Steps = SILENT) -> Statistics:
        """The statistics of a bundle's graphs.

        The terms of each Gaussian are fitted to the training images, all else is measured on the test images. So the
        typicality of test images is uniform on [0, 1], though no density was fitted to them.
        """
        with steps.step("statistics", len(sets.train_images) + len(sets.test_images)) as advance:
            train = Terms.of(graphs, sets.train_images)
            density = Density.fit(prior, train.mu, train.logarithms)
            advance(len(sets.train_images))
            test = Terms.of(graphs, sets.test_images)
            surprisals = density.surprisal(test.mu, test.logarithms)
            count = min(QUANTILES, len(surprisals))
            quantiles = np.quantile(surprisals, (np.arange(count) + 0.5) / count, method="hazen")
        found = (
            test.rates.mean(0, dtype=np.float64),
            test.mu.mean(0, dtype=np.float64),
            test.mu.std(0, dtype=np.float64),
            density.term_means,
            density.term_cholesky,
            quantiles,
            np.array(variance(graphs, recipe, sets)),
        )
        return cls(*(array.astype(np.float32) for array in found))

    def to_bytes(self) -> bytes:
        """The file statistics.npz; equal statistics give equal bytes."""
        file = io.BytesIO()
        arrays: dict[str, Array] = {name: getattr(self, name) for name in contract.STATISTICS_ARRAYS}
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Statistics:
        """The statistics that `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls(*(file[name] for name in contract.STATISTICS_ARRAYS))

    def typicality(self, prior: Prior, terms: Terms) -> npt.NDArray[np.float64]:
        """The share of test images that are less likely than each image, by their codes and terms: [N], 0 to 1.

        Beyond the last quantile it falls exponentially with the surprisal.
        """
        surprisal = Density.of(prior, self.term_means, self.term_cholesky).surprisal(terms.mu, terms.logarithms)
        known = self.surprisals.astype(np.float64)
        count = len(known)
        below = np.interp(surprisal, known, (np.arange(count) + 0.5) / count)
        excess = known - known[int(contract.TAIL * count)]
        scale = max(float(excess[excess >= 0].mean()), np.finfo(np.float32).tiny)
        beyond = np.maximum(surprisal - known[-1], 0)
        typicality: npt.NDArray[np.float64] = (1 - below) * np.exp(-beyond / scale)
        return typicality


def variance(graphs: Graphs, recipe: Recipe, sets: Sets) -> float:
    """The variance of the objective's Gaussian, for pixels in [-1, 1]; 0 where the objective has none."""
    if recipe.objective == contract.SQUARED_ERROR:
        return 0.5
    return Likelihood.of(graphs, recipe, sets.train_images).variance or 0.0


def add(folder: Path, sets: Sets, steps: Steps = SILENT, *, overwrite: bool = False) -> Path:
    """Write the bundle in models/<name>/<version> again, with statistics and map, and return its folder.

    It is the next free version, whose graphs have that version in their metadata, or with `overwrite` the same one.
    Raises ExportError, in one sentence, when the files are not those of a bundle with a prior.
    """
    bundle, files = rewrite.read(folder)
    recipe = recorded(bundle.recipe, "The bundle's recipe")
    graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
    prior = Prior.from_bytes(files[contract.PRIOR_FILE])
    files[contract.STATISTICS_FILE] = Statistics.measure(graphs, recipe, prior, sets, steps).to_bytes()
    files[contract.MAP_FILE] = LatentMap.measure(graphs, sets).to_bytes()
    return rewrite.publish(bundle, files, folder.parent, overwrite=overwrite)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training statistics", description="Add statistics and a map to a bundle, or measure them again."
    )
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>")
    data.add_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="in place, and not as the next free version")
    options = parser.parse_args(arguments)
    try:
        bundle, _ = rewrite.read(options.bundle)
        with Steps() as steps:
            sets = data.load_both(bundle.dataset, options.data_dir, steps)
            folder = add(options.bundle, sets, steps, overwrite=options.overwrite)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    files = f"{contract.STATISTICS_FILE} and {contract.MAP_FILE}"
    print(f"{folder} has {files}, measured on {len(sets.test_images):,} test images.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
