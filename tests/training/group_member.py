"""One of several processes that train together: a step of each recipe, and then a whole run of the first.

torchrun --standalone --nproc-per-node=2 -m tests.training.group_member FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import torch

from tests.training import subset
from training import checkpoint, data, process_group, recipe, train
from training.__main__ import end
from training.recipe import Recipe

BATCH: Final = 33  # one batch that two processes cannot halve
VARIANTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"objective": "calibrated", "free_bits": 0.3, "augmentation": 0.5},
    {"objective": "bernoulli", "importance_samples": 3},
)


def recipes(small: Recipe) -> list[Recipe]:
    """Objectives that need messages of different kinds."""
    return [small.model_copy(update={"epochs": 2} | changes) for changes in VARIANTS]


def main(folder: Path) -> None:
    """Leave gradients, figures and weights of this process in the folder."""
    torch.set_num_threads(1)
    data.DATASETS["mnist"] = subset.SUBSET
    images, _ = data.load("mnist", "train", subset.DIRECTORY)
    wanted = recipes(recipe.read("mnist-mlp").model_copy(update=subset.SMALL))
    with process_group.join(torch.device("cpu")) as (group, device):
        results = []
        for each in wanted:
            state = checkpoint.start(each, (28, 28), device)
            met = train.epoch(each, state, images[:BATCH], lambda _: None, group)
            gradients = [weight.grad.clone() for weight in state.model.parameters() if weight.grad is not None]
            results.append((gradients, (met.distortion, met.rate)))
        torch.save(results, folder / f"gradients-{group.rank}.pt")
        state = checkpoint.start(wanted[0], (28, 28), device)
        train.fit(wanted[0], state, images[:500], images[500:], folder / "run", group)
        torch.save(state.model.state_dict(), folder / f"weights-{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    end(0)
