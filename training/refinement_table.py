"""What steps, draws and step sizes of a refinement reach, to choose them by: on validation images, in PyTorch.

    python -m training.refinement_table models/mnist-resmlp/1 --data-dir DIR

Prints a table in Markdown: the mean total of the last 600 training images, which validate, over eight antithetic pairs
of draws from each posterior. `cost` counts the passes of the decoder, forward or back, that an image takes. Nothing is
exported and no test image is looked at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from training import data, parallel, refine
from training.errors import TrainingError
from training.model import VAE, to_signal
from training.objective import distortion, rate
from training.refinement import Refined
from training.steps import Steps

IMAGES: Final = 600
PAIRS: Final = 8
STEPS: Final = (1, 2, 4, 6, 8)
DRAWS: Final = (2, 4)
STEP_SIZES: Final = (0.2, 0.3, 0.4, 0.5)


@torch.no_grad()
def total(model: VAE, x: Tensor) -> float:
    """The mean of distortion + rate under the squared-error objective, of images x [N, *image_shape] in [-1, 1]."""
    mu, logvar = model.encode(x)
    generator = torch.Generator().manual_seed(0)
    distortions = torch.zeros(len(x))
    for _ in range(PAIRS):
        away = torch.exp(0.5 * logvar) * torch.randn(mu.shape, generator=generator)
        distortions += distortion(model.decode(mu + away), x) + distortion(model.decode(mu - away), x)
    return (distortions / (2 * PAIRS) + rate(mu, logvar)).mean().item()


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.refinement_table", description="Compare refinements.")
    parser.add_argument("bundle", type=Path, help="models/<name>/<version>, of the squared-error objective")
    data.add_option(parser)
    options = parser.parse_args(arguments)
    try:
        run = refine.read(options.bundle)
        with Steps() as steps:
            sets = data.load_both(run.recipe.dataset, options.data_dir, steps)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    x = to_signal(sets.train_images[-min(IMAGES, run.recipe.validation_size) :])
    with parallel.one_thread():
        print(f"Without refinement: {total(run.model, x):.2f}\n")
        print(f"| steps | draws | cost | {' | '.join(f'step size {size:g}' for size in STEP_SIZES)} |")
        print(f"|---|---|---|{'---|' * len(STEP_SIZES)}")
        for count, draws in product(STEPS, DRAWS):
            cells = []
            for size in STEP_SIZES:
                values = {"refinement_steps": count, "refinement_draws": draws, "refinement_step_size": size}
                cells.append(f"{total(Refined(run.model, run.recipe.model_copy(update=values)), x):.2f}")
            print(f"| {count} | {draws} | {2 * count * draws} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
