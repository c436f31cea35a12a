"""A refined encoder for a bundle that is there, without its run and without training.

    python -m training refine models/mnist-resmlp/1 --steps 4 --data-dir DIR

The weights are read from the bundle's graphs, and their SHA-256 must be its identity. Everything else is measured
again. The result is the next version. It is what an export of the run with these values of `refinement_steps`,
`refinement_draws` and `refinement_step_size` writes. See `training.refinement`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from onnx import numpy_helper

from service import contract
from training import data, export, networks, onnx_model, recipe, rewrite
from training.card_text import CURVES
from training.checkpoint import Trained
from training.errors import ExportError, RecipeError, TrainingError
from training.graphs import learned
from training.recipe import Recipe, recorded
from training.steps import Steps


def read(folder: Path) -> Trained:
    """The run whose bundle is in models/<name>/<version>, without its history and its time.

    Raises ExportError, in one sentence, when the files are not those of a bundle, or its weights not those of its
    recipe.
    """
    bundle, files = rewrite.read(folder)
    wanted = recorded(bundle.recipe, "The bundle's recipe")
    weights = learned(files[contract.ENCODER_FILE]) | learned(files[contract.DECODER_FILE])
    model = networks.build(wanted, bundle.image_shape).requires_grad_(False).eval()
    try:
        arrays = {name: numpy_helper.to_array(tensor) for name, tensor in weights.items()}
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    except RuntimeError as error:
        raise ExportError(f"The graphs of {folder} do not have the weights of its recipe's network.") from error
    if onnx_model.identity(model) != bundle.identity:
        raise ExportError(f"The weights in the graphs of {folder} are not those of its identity.")
    device = bundle.tools.get("device", "cpu")
    return Trained(wanted, model, history=[], seconds=0.0, device=device, curves=files.get(CURVES))


def parser() -> argparse.ArgumentParser:
    """The program's options."""
    fields = Recipe.model_fields
    found = argparse.ArgumentParser(
        prog="python -m training refine", description="Give a bundle an encoder that refines its posteriors."
    )
    found.add_argument("bundle", type=Path, help="models/<name>/<version>")
    found.add_argument("--steps", type=int, required=True, help=fields["refinement_steps"].description)
    found.add_argument("--draws", type=int, help=f"{fields['refinement_draws'].description} (default: the recipe's)")
    found.add_argument(
        "--step-size", type=float, help=f"{fields['refinement_step_size'].description} (default: the recipe's)"
    )
    found.add_argument("--name", help="name of the new bundle (default: the bundle's)")
    data.add_option(found)
    found.add_argument(
        "--models-dir", type=Path, default=Path("models"), help="where the bundle goes (default: models)"
    )
    found.add_argument(
        "--quick", action="store_true", help="measure on fewer images and draws, for a first look; write nothing"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        run = read(options.bundle)
        wanted = {
            "refinement_steps": options.steps,
            "refinement_draws": options.draws,
            "refinement_step_size": options.step_size,
            "name": options.name,
        }
        changed = run.recipe.model_dump() | {name: value for name, value in wanted.items() if value is not None}
        run = replace(run, recipe=recipe.validated(changed, "The recipe with the command line's changes"))
        with Steps() as steps:
            sets = data.load_both(run.recipe.dataset, options.data_dir, steps)
        if options.quick:
            export.look(run, sets)
        else:
            export.finish(run, sets, options.models_dir, None)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
