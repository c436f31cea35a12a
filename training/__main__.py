"""Train, export, and evaluate once on the test set, in one go; or compare what was trained.

    python -m training --recipe mnist-mlp --data-dir DIR        (--help: everything that can be changed)
    python -m training compare                                  (a table of all runs)

Leaves runs/<recipe>/ (recipe.toml, checkpoint.pt, metrics.json, log.txt, tensorboard/) and the bundle
models/<recipe>/<version>/. Under torchrun several processes train together; see `training.world`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import torch

from training import card, checkpoint, compare, data, export, recipe, train, world
from training.errors import RecipeError, TrainingError
from training.recipe import Options, Recipe
from training.world import World


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status: 0, 1 for what the user can mend, 130 when the user stopped it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:
        return compare.main(arguments[1:])
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
    """Train what is wanted, export and evaluate it; raises TrainingError, in one sentence, for what cannot be done."""
    train.prepare_cpu()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("There is no CUDA device that this PyTorch can use; train with --device cpu.")
    with world.join(device) as (processes, own):
        _train(options, wanted, processes, own)
    if not processes.first:
        return
    path = options.runs_dir / wanted.name / checkpoint.CHECKPOINT
    finished = checkpoint.trained(path)
    sets = data.load_both(wanted.dataset, options.data_dir)
    print(f"\nTrained in {finished.seconds / 60:.1f} minutes. Exporting and evaluating ...", flush=True)
    folder, bundle = export.export(finished, sets, options.models_dir, overwrite=options.overwrite)
    report = path.with_name(card.REPORT)
    card.report(finished, bundle, report)
    metrics = bundle.metrics
    print(
        f"On {len(sets.test_images):,} test images: distortion {metrics['distortion']:.2f} + "
        f"rate {metrics['rate']:.2f} = total {metrics['total']:.2f}; PSNR {metrics['psnr']:.2f} dB; "
        f"{metrics['active_units']:.0f} of {wanted.latent_dim} latents in use; Frechet distance of samples "
        f"{metrics['frechet_aggregate']:.2f} ({metrics['frechet_normal']:.2f} from the normal prior).\n"
        f"  metrics     {report}  (beside others: python -m training compare)\n"
        f"  checkpoint  {path}\n"
        f"  bundle      {folder}  (its card: {folder}/README.md; `python -m service` serves it)"
    )


def _train(options: Options, wanted: Recipe, processes: World, device: torch.device) -> None:
    """Train from the start or from the last checkpoint."""
    folder = options.runs_dir / wanted.name
    state = checkpoint.resume(folder / checkpoint.CHECKPOINT, wanted, device) if options.resume else None
    images, _ = data.load(wanted.dataset, "train", options.data_dir)
    if state is None:
        state = checkpoint.start(wanted, tuple(images.shape[1:]), device)
        if wanted.start_from:
            checkpoint.start_from(state, options.runs_dir / wanted.start_from / checkpoint.CHECKPOINT)
    training, validation = data.split(images.to(device), wanted.validation_size)
    if processes.first:
        _announce(options, wanted, state, len(training), len(validation))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(recipe.to_toml(wanted))
    train.fit(wanted, state, training, validation, folder, processes)


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
