"""One run from the data to a bundle: train, evaluate on the test set, export.

It leaves runs/<name>/ (recipe.toml, checkpoint.pt, metrics.json, log.txt, tensorboard/) and the bundle
models/<name>/<version>/. Under torchrun several processes train together: see `training.process_group`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training import checkpoint, commands, data, options, process_group, recipe, train
from training.checkpoint import CHECKPOINT, State
from training.data import Sets
from training.errors import CheckpointError, RecipeError, TrainingError
from training.options import Wanted
from training.process_group import ProcessGroup
from training.recipe import Recipe
from training.steps import Steps
from training.versions import refuse_taken


def main(arguments: Sequence[str]) -> int:
    """The program. Returns its exit status: 0; 1 or 2 for what the user can change; 130 when the user stopped it."""
    try:
        return run(options.parse(arguments))
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1


def run(wanted: Wanted) -> int:
    """Train, evaluate and export; returns the exit status: 0, or 130 when the user stopped it.

    Whatever is in the way is found before the first step. Raises TrainingError, in one sentence, for what cannot be
    done.
    """
    train.prepare_cpu()
    chosen = wanted.options
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("There is no CUDA device that this PyTorch can use; train with --device cpu.")
    _refuse_conflicts(wanted)
    with Steps(silent=not process_group.is_first()) as steps:
        sets = data.load_both(wanted.recipe.dataset, chosen.data_dir, steps)
    wanted, notes = _with_validation_size(wanted, len(sets.train_images))
    name = wanted.recipe.name
    try:
        with process_group.join(device) as (group, own):
            finished = _train(wanted, sets, notes, group, own)
    except KeyboardInterrupt:
        saved = (chosen.runs_dir / name / CHECKPOINT).exists()
        way = (
            f"To go on from the last checkpoint: {commands.resume(name, chosen)}" if saved else "Nothing is saved yet."
        )
        print(f"Stopped at once. {way}", file=sys.stderr)
        return 130
    # The group has ended, and only its first process goes on: no other process can disturb the export.
    if not group.first:
        return 0 if finished else 130
    if not finished:
        print(f"Stopped and saved. To go on: {commands.resume(name, chosen)}", file=sys.stderr)
        return 130
    _export(wanted, sets)
    return 0


def _refuse_conflicts(wanted: Wanted) -> None:
    """Raise TrainingError when the run or the bundle would take the place of another one that may not be replaced."""
    chosen, name = wanted.options, wanted.recipe.name
    if chosen.version is not None and not chosen.overwrite:
        refuse_taken(chosen.models_dir / name / str(chosen.version))
    path = chosen.runs_dir / name / CHECKPOINT
    if path.exists() and not chosen.resume and not chosen.restart:
        done, epochs = checkpoint.progress_of(path)
        raise CheckpointError(
            f"{path.parent} has a run already, with {done} of {epochs} epochs: go on with it with --resume, replace it "
            "with --restart, or give the new run another --name."
        )


def _with_validation_size(wanted: Wanted, images: int) -> tuple[Wanted, list[str]]:
    """The same with no more validation images than a fifth of the training part, and what to say about it."""
    asked = wanted.recipe.validation_size
    size = data.validation_size(asked, images)
    if size == asked:
        return wanted, []
    wanted = replace(wanted, recipe=wanted.recipe.model_copy(update={"validation_size": size}))
    return wanted, [f"{size:,} of the {images:,} training images validate, a fifth, instead of {asked:,}."]


def _train(wanted: Wanted, sets: Sets, notes: list[str], group: ProcessGroup, device: torch.device) -> bool:
    """Train from the start or from the last checkpoint; returns False when the user stopped it."""
    chosen = wanted.options
    folder = chosen.runs_dir / wanted.recipe.name
    trained = wanted.recipe
    if chosen.resume:
        resumed = checkpoint.resume(folder / CHECKPOINT, wanted.recipe, device)
        trained, state = resumed.recipe, resumed.state
        notes = [*notes, *_file_notes(wanted), *resumed.notes]
    else:
        state = checkpoint.start(trained, tuple(sets.train_images.shape[1:]), device)
        if trained.start_from:
            checkpoint.start_from(state, chosen.runs_dir / trained.start_from / CHECKPOINT)
    training, validation = data.split(sets.train_images.to(device), trained.validation_size)
    if group.first:
        _announce(wanted, trained, state, notes, len(training), len(validation))
        _prepare(folder, trained, restart=chosen.restart)
        if chosen.resume and trained != wanted.base:
            checkpoint.save(folder / CHECKPOINT, trained, state)  # from now on this is the run's recipe
    try:
        train.fit(trained, state, training, validation, folder, group)
    except train.Interrupted:  # raised by all processes after the same epoch
        return False
    return True


def _prepare(folder: Path, trained: Recipe, *, restart: bool) -> None:
    """Make the folder of a run, with its recipe, and with --restart without the logs of the run before."""
    if restart:
        shutil.rmtree(folder / train.TENSORBOARD, ignore_errors=True)
        for name in (train.LOG, checkpoint.REPORT):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(recipe.to_toml(trained))


def _file_notes(wanted: Wanted) -> list[str]:
    """What the user should know when a run that is resumed differs from the recipe file that was named."""
    chosen = wanted.options
    if "recipe" not in chosen.model_fields_set:
        return []
    file = recipe.read(chosen.recipe)
    others = [name for name in recipe.differing(wanted.base, file) if name not in ("name", recipe.HISTORY)]
    if not others:
        return []
    values = ", ".join(f"{name} {getattr(wanted.base, name)}" for name in others)
    return [f"The run goes on as it was started, not as recipe {chosen.recipe} says: with {values}."]


def _announce(wanted: Wanted, trained: Recipe, state: State, notes: list[str], training: int, validation: int) -> None:
    """Say what is about to happen."""
    chosen = wanted.options
    if state.epoch == trained.epochs:
        print(f"{trained.name}: all {trained.epochs} epochs are trained.", flush=True)
        return
    for note in notes:
        print(note)
    print(
        f"{trained.name}: {training:,} images to train on, {validation:,} to validate, epochs {state.epoch + 1} to "
        f"{trained.epochs} on {chosen.device}.\nCurves and panels: {commands.tensorboard(chosen.runs_dir)}",
        flush=True,
    )


def _export(wanted: Wanted, sets: Sets) -> None:
    """Evaluate and export the finished run."""
    from training import export  # its libraries take a second or two to import, which the training need not wait for

    chosen = wanted.options
    path = chosen.runs_dir / wanted.recipe.name / CHECKPOINT
    finished = checkpoint.trained(path)
    print(f"\nTrained in {finished.seconds / 60:.1f} minutes. Evaluating and exporting ...", flush=True)
    if chosen.quick:
        export.look(finished, sets)
        print(f"To evaluate in full and export: {commands.export(path, chosen)}")
        return
    export.finish(
        finished,
        sets,
        chosen.models_dir,
        path.with_name(checkpoint.REPORT),
        version=chosen.version,
        overwrite=chosen.overwrite,
    )
