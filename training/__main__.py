"""Train, evaluate once on the test set, and export, in one go.

    python -m training --recipe mnist-mlp --data-dir DIR        (--help: everything that can be changed)

Leaves runs/<recipe>/ (checkpoint.pt, metrics.json, tensorboard/) and the bundle models/<recipe>/<version>/.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence

import torch

from training import card, checkpoint, data, export, recipe, train
from training.errors import RecipeError, TrainingError
from training.evaluate import evaluate
from training.recipe import Options, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status: 0, 1 for what the user can mend, 130 when the user stopped it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options, wanted = recipe.parse(arguments)
        run(options, wanted)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1
    except train.Interrupted:
        again = [each for each in arguments if each != "--resume"]
        print(
            f"Stopped and saved. To go on: {shlex.join(['python', '-m', 'training', *again, '--resume'])}",
            file=sys.stderr,
        )
        return 130
    except KeyboardInterrupt:
        print("Stopped at once; --resume goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def run(options: Options, wanted: Recipe) -> None:
    """Train what is wanted, evaluate and export it; raises TrainingError, in one sentence, for what cannot be done."""
    train.prepare_cpu()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("There is no CUDA device that this PyTorch can use; train with --device cpu.")
    folder = options.runs_dir / wanted.name
    path = folder / checkpoint.CHECKPOINT
    state = checkpoint.resume(path, wanted, device) if options.resume else checkpoint.start(wanted, device)

    known_images, _ = data.load(wanted.dataset, "train", options.data_dir)
    training, validation = data.split(known_images.to(device), wanted.validation_size)
    _announce(options, wanted, state, len(training), len(validation))
    began = time.monotonic()
    train.fit(wanted, state, training, validation, folder)
    minutes = (time.monotonic() - began) / 60

    wanted, model = checkpoint.trained(path)
    images, labels = data.load(wanted.dataset, "test", options.data_dir)
    metrics = evaluate(model, images, known_images)
    report = folder / "metrics.json"
    figures = card.report(wanted, metrics, export.tools(), export.git_commit())
    report.write_text(json.dumps(figures, indent=2) + "\n")
    print(
        f"\nTrained in {minutes:.1f} minutes. On {len(images):,} test images: distortion {metrics['distortion']:.2f} + "
        f"rate {metrics['rate']:.2f} = total {metrics['total']:.2f}; PSNR {metrics['psnr']:.2f} dB; "
        f"{metrics['active_units']:.0f} of {wanted.latent_dim} latents in use.\n"
        f"  metrics     {report}\n"
        f"  checkpoint  {path}",
        flush=True,
    )
    bundle = export.export(wanted, model, metrics, images, labels, options.models_dir, overwrite=options.overwrite)
    print(f"  bundle      {bundle}  (its card: {bundle}/README.md; `python -m service` serves it)")


def _announce(options: Options, wanted: Recipe, state: checkpoint.State, training: int, validation: int) -> None:
    """Say what is about to happen, and what of it the user may not expect."""
    if state.epoch == wanted.epochs:
        print(f"{wanted.name}: all {wanted.epochs} epochs are trained.", flush=True)
        return
    print(
        f"{wanted.name}: {training:,} images to train on, {validation:,} to validate, epochs {state.epoch + 1} to "
        f"{wanted.epochs} on {options.device}; curves and panels: tensorboard --logdir {options.runs_dir}",
        flush=True,
    )
    path = options.runs_dir / wanted.name / checkpoint.CHECKPOINT
    if path.exists() and not options.resume:
        print(f"Starting over: {path} will be replaced (--resume would go on from it).", flush=True)
    bundle = options.models_dir / wanted.name / str(wanted.version)
    if bundle.exists() and not options.overwrite:
        print(f"{bundle} is there already: another bundle takes its place only with --overwrite.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
