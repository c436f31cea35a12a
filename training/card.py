"""The model card of a bundle and its pictures, and the report of a run. All have the same figures as model.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from service.contract import CARD_FILE, Contract
from training import card_text, commands, data, figures, pictures, plots
from training.checkpoint import Trained
from training.data import Sets
from training.figures import Figures
from training.graphs import Graphs
from training.recipe import Recipe
from training.sampler import Sampler

SCALE: Final = 2
COLUMNS: Final = 10
SAMPLE_SEED: Final = 0
TRAVERSED: Final = np.linspace(-3, 3, COLUMNS, dtype=np.float32)


def report(run: Trained, bundle: Contract, path: Path) -> None:
    """Write metrics.json of a run: its recipe, its figures on the test set, its time, and what made them."""
    document = {
        "command": commands.reproduce(run.recipe.model_copy(update={"dataset": bundle.dataset}), run.device),
        "git_commit": bundle.git_commit,
        "metrics": bundle.metrics,
        "recipe": bundle.recipe,
        "seconds": round(run.seconds, 1),
        "sharpness": bundle.sharpness,
        "temperature": bundle.temperature,
        "tools": bundle.tools,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def summary(recipe: Recipe, found: Figures, test_images: int) -> str:
    """The main figures in one line, and a second line where they are rough."""
    line = (
        f"On {test_images:,} test images: distortion {found['distortion']:.2f} + rate {found['rate']:.2f} = total "
        f"{found['total']:.2f}; PSNR {found['psnr']:.2f} dB; {found['active_units']:.0f} of {recipe.latent_dim} "
        f"latents in use; Frechet distance of samples {found['frechet_aggregate']:.2f} "
        f"({found['frechet_normal']:.2f} from the normal prior)."
    )
    rough = figures.warning(test_images)
    return f"{line}\n{rough}" if rough else line


def write(bundle: Contract, sampler: Sampler, sets: Sets, plotted: Mapping[str, bytes]) -> dict[str, bytes]:
    """The card and its pictures as files of the bundle, by name. The pictures show what the graphs give.

    `plotted` are those of `card_text.PLOTTED` that there are.
    """
    graphs = sampler.graphs
    codes = graphs.encode(sets.test_images)[0].numpy()
    labels = sampler.prior.labels[: card_text.MOST_ROWS]
    by_label = [sampler.images(COLUMNS, SAMPLE_SEED, int(label)) for label in labels]

    def grid(images: npt.NDArray[np.uint8]) -> bytes:
        return pictures.png(pictures.grid(images, COLUMNS), SCALE)

    return {
        **plotted,
        CARD_FILE: card_text.text(bundle, plotted).encode(),
        card_text.RECONSTRUCTIONS: reconstructions(graphs, sets),
        card_text.SAMPLES_NORMAL: grid(sampler.normal(COLUMNS**2, SAMPLE_SEED)),
        card_text.SAMPLES_AGGREGATE: grid(sampler.images(COLUMNS**2, SAMPLE_SEED)),
        card_text.SAMPLES_LABELS: grid(np.concatenate(by_label)),
        card_text.TRAVERSALS: grid(graphs.images(traversals(codes))),
        card_text.LATENTS: plots.latent_map(codes, sets.test_labels.numpy(), sets.label_names),
    }


def reconstructions(graphs: Graphs, sets: Sets) -> bytes:
    """Test images of each label in turn, each row above its reconstructions, as a PNG file."""
    shown = sets.test_images[data.some_of_each_label(sets.test_labels, 2 * COLUMNS)]
    shown = shown[: len(shown) // COLUMNS * COLUMNS or len(shown)]
    mu, _ = graphs.encode(shown)
    picture = pictures.above(shown.numpy(), graphs.images(mu.numpy()), min(COLUMNS, len(shown)))
    return pictures.png(picture, SCALE)


def traversals(codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Latents float32 [rows * 10, L] for a grid: the first code, in each row with one latent moved from -3 to 3.

    `codes` are the mu of the test set, [N, L]. The latents that vary most among them come first.
    """
    busiest = codes.var(0).argsort()[::-1][: card_text.MOST_ROWS]
    z = np.repeat(codes[:1], len(busiest) * COLUMNS, axis=0)
    for row, latent in enumerate(busiest):
        z[row * COLUMNS : (row + 1) * COLUMNS, latent] = TRAVERSED
    return z
