"""Export: from a checkpoint to a model bundle, models/<name>/<version>/, that the service accepts.

    python -m training export runs/mnist-mlp/checkpoint.pt --data-dir DIR       (also: python -m training.export ...)

A bundle has two ONNX graphs with grey levels as input and output, which are compared with PyTorch on real test images
before anything is written; the prior that is fitted to the codes (prior.npz); the statistics of the test set
(statistics.npz) and a map of its latents (map.json); a few test images with the outputs PyTorch gave (golden.npz); the
contract (model.json); and the card with its figures, which are measured on those graphs. The bundle appears whole, by
one rename. The same checkpoint gives the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from service import contract
from service.contract import Contract
from training import card, card_text, checkpoint, data, figures, onnx_graph, onnx_model, plots, provenance, versions
from training.checkpoint import Trained
from training.classifier import hashes, judges_of
from training.data import Sets
from training.errors import ExportError, RecipeError, TrainingError, VersionTaken
from training.evaluate import evaluate, refinement_figures
from training.figures import FULL, QUICK, Effort
from training.graphs import Graphs
from training.latent_map import LatentMap
from training.likelihood import Likelihood
from training.model import VAE, to_image, to_signal
from training.objective import reparametrise
from training.plots import Trade
from training.prior import Prior
from training.recipe import recorded
from training.refinement import Refined
from training.sampler import Sampler
from training.sharpen import choose
from training.statistics import Statistics
from training.steps import SILENT, Steps

GOLDEN_IMAGES: Final = 16
GOLDEN_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a bundle is made of.

    The contract with its figures, the model, both graphs as files and as sessions, the prior, and what the default
    temperature was chosen by, `trade`.
    """

    bundle: Contract
    model: VAE
    encoder: bytes
    decoder: bytes
    graphs: Graphs
    prior: Prior
    trade: Trade

    @property
    def sampler(self) -> Sampler:
        """Samples as the service will draw them by default."""
        return Sampler(self.graphs, self.prior, self.bundle.sharpness, self.bundle.temperature)


@dataclass(frozen=True, slots=True)
class Exported:
    """Where a bundle is, what was measured for it, and whether it is `new` or was there before."""

    folder: Path
    bundle: Contract
    new: bool

    @property
    def sentence(self) -> str:
        """What has become of the bundle."""
        if not self.new:
            return f"{self.folder} is this very bundle already, with the same weights and figures; it is left as it is."
        return f"{self.folder} is the new bundle {self.bundle.id}; its card is {self.folder / contract.CARD_FILE}."


def export(
    run: Trained,
    sets: Sets,
    models_dir: Path,
    *,
    version: int | None = None,
    overwrite: bool = False,
    steps: Steps = SILENT,
) -> Exported:
    """Write the bundle of a finished run.

    Without `version` a bundle that is the same is left as it is, and any other becomes the next free version. With
    `version`, raises VersionTaken, before any work, when there is such a version and `overwrite` is not set. Raises
    ExportError, in one sentence, when the graphs do not agree with PyTorch.
    """
    place = models_dir / run.recipe.name
    if version is not None and not overwrite:
        versions.refuse_taken(place / str(version))
    measured = measure(run, sets, version or versions.next_free(place), steps=steps)
    statistics: Statistics | None = None
    while True:
        bundle = measured.bundle
        if version is None and (same := versions.find_same(place, bundle, measured.encoder, measured.decoder)):
            return Exported(same, dataclasses.replace(bundle, version=int(same.name)), new=False)
        if statistics is None:
            recipe = recorded(bundle.recipe, "It")
            statistics = Statistics.measure(measured.graphs, recipe, measured.prior, sets, steps)
        with steps.step("card and pictures"):
            bundle, files = _files(measured, statistics, run, sets)
        try:
            versions.publish(files, place / str(bundle.version), overwrite=overwrite)
        except VersionTaken:
            if version is not None:
                raise
            measured = _renumbered(measured, versions.next_free(place))  # another export was faster
        else:
            return Exported(place / str(bundle.version), bundle, new=True)


def measure(run: Trained, sets: Sets, version: int, *, effort: Effort = FULL, steps: Steps = SILENT) -> Measured:
    """The graphs, the prior and the figures of a finished run.

    Raises ExportError, in one sentence, when the graphs do not agree with PyTorch.
    """
    # The path of a folder of pictures is not for others to read.
    recipe = run.recipe.model_copy(update={"dataset": data.published(run.recipe.dataset)})
    judges = judges_of(recipe.dataset, sets.train_images, sets.train_labels, steps)
    bundle = Contract(
        name=recipe.name,
        version=version,
        identity=onnx_model.identity(run.model),
        dataset=recipe.dataset,
        image_shape=run.model.architecture.image_shape,
        background=data.background(recipe.dataset, sets.train_images),
        latent_dim=recipe.latent_dim,
        objective=recipe.objective,
        recipe=recipe.model_dump(),
        metrics={},
        files={},
        tools=provenance.tools() | hashes(judges) | ({"device": run.device} if run.device != "cpu" else {}),
        git_commit=provenance.git_commit(),
        label_names=sets.label_names,
    )
    with steps.step("graphs, compared with PyTorch"):
        model, (encoder, decoder) = run.model, _proven(run.model, sets.test_images, bundle)
        graphs = Graphs(encoder, decoder)
    if recipe.refinement_steps:
        with steps.step("graphs of the refined encoder, compared with PyTorch"):
            unrefined = graphs
            model = Refined(run.model, recipe, Likelihood.of(unrefined, recipe, sets.train_images).variance).eval()
            encoder, decoder = _proven(model, sets.test_images, bundle)
            graphs = Graphs(encoder, decoder)
    with steps.step("prior of each label", len(torch.unique(sets.train_labels))) as advance:
        mu, _ = graphs.encode(sets.train_images)
        prior = Prior.fit(mu.numpy(), sets.train_labels.numpy(), recipe.prior_components, advance)
    choice = choose(graphs, prior, sets.train_images, judges, effort=effort, steps=steps)
    bundle = dataclasses.replace(bundle, sharpness=choice.sharpness, temperature=choice.temperature)
    measured = Measured(bundle, model, encoder, decoder, graphs, prior, choice.trade)
    found = evaluate(measured.sampler, recipe, sets, judges, effort=effort, steps=steps)
    if recipe.refinement_steps:
        found |= refinement_figures(graphs, unrefined, recipe, effort.of(sets))
    return dataclasses.replace(measured, bundle=dataclasses.replace(bundle, metrics=found))


def _proven(model: VAE, images: Tensor, bundle: Contract) -> tuple[bytes, bytes]:
    """The graphs of a model, which agree with PyTorch on these images."""
    encoder, decoder = onnx_model.graphs(model, images, contract.graph_metadata(bundle))
    onnx_model.prove_parity(model, encoder, decoder, images)
    return encoder, decoder


def _renumbered(measured: Measured, version: int) -> Measured:
    """The same under another version, which is written into the graphs' metadata."""
    bundle = dataclasses.replace(measured.bundle, version=version)
    metadata = contract.graph_metadata(bundle)
    encoder, decoder = (onnx_graph.with_metadata(graph, metadata) for graph in (measured.encoder, measured.decoder))
    bundle = dataclasses.replace(bundle, metrics=bundle.metrics | {"onnx_bytes": float(len(encoder) + len(decoder))})
    return dataclasses.replace(measured, bundle=bundle, encoder=encoder, decoder=decoder)


def _files(measured: Measured, statistics: Statistics, run: Trained, sets: Sets) -> tuple[Contract, dict[str, bytes]]:
    """The contract of a bundle with the hashes of its files, and all files of the bundle by name."""
    files = {
        contract.ENCODER_FILE: measured.encoder,
        contract.DECODER_FILE: measured.decoder,
        contract.PRIOR_FILE: measured.prior.to_bytes(),
        contract.STATISTICS_FILE: statistics.to_bytes(),
        contract.MAP_FILE: LatentMap.measure(measured.graphs, sets).to_bytes(),
        contract.GOLDEN_FILE: _golden(measured.model, sets.test_images, sets.test_labels),
    }
    plotted = {card_text.TRADE: plots.trade(measured.trade, measured.bundle.temperature)}
    if curves := plots.curves(run.history) if run.history else run.curves:
        plotted[card_text.CURVES] = curves
    files |= card.write(measured.bundle, measured.sampler, sets, plotted)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    bundle = dataclasses.replace(measured.bundle, files=hashes)
    files[contract.CONTRACT_FILE] = bundle.to_json().encode()
    if Contract.from_json(files[contract.CONTRACT_FILE]) != bundle:
        raise ExportError(f"{contract.CONTRACT_FILE} does not read back as it was written.")
    return bundle, files


@torch.no_grad()
def _golden(model: VAE, images: Tensor, labels: Tensor) -> bytes:
    """golden.npz: real test images, one or two of each label, with the outputs that PyTorch gives for them."""
    image = images[data.some_of_each_label(labels, GOLDEN_IMAGES)]
    mu, logvar = model.encode(to_signal(image))
    z = reparametrise(mu, logvar, torch.Generator().manual_seed(GOLDEN_SEED))
    arrays = {
        contract.IMAGE: image,
        contract.MU: mu,
        contract.LOGVAR: logvar,
        contract.Z: z,
        contract.GOLDEN_DECODED: to_image(model.decode(z)),
    }
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{name: array.numpy() for name, array in arrays.items()})
    return file.getvalue()


def finish(
    run: Trained,
    sets: Sets,
    models_dir: Path,
    report: Path | None,
    *,
    version: int | None = None,
    overwrite: bool = False,
) -> None:
    """Export a finished run, write its `report`, and print its figures and where everything is; raises as `export`."""
    with Steps() as steps:
        exported = export(run, sets, models_dir, version=version, overwrite=overwrite, steps=steps)
    print(card.summary(run.recipe, exported.bundle.metrics, len(sets.test_images)))
    print(exported.sentence)
    if report is not None:
        card.report(run, exported.bundle, report)
        print(f"The figures are also in {report}.")


def look(run: Trained, sets: Sets) -> None:
    """Print the figures of a quick look at a finished run. Nothing is written."""
    with Steps() as steps:
        found = measure(run, sets, version=1, effort=QUICK, steps=steps).bundle.metrics
    print(card.summary(run.recipe, found, len(QUICK.of(sets).test_images)))
    print(f"{figures.look(sets, run.recipe)} No bundle is written.")


def parser() -> argparse.ArgumentParser:
    """The program's options."""
    found = argparse.ArgumentParser(
        prog="python -m training export", description="Evaluate a finished run and export it as a model bundle."
    )
    found.add_argument("checkpoint", type=Path, help="a finished run's checkpoint.pt")
    data.add_option(found)
    found.add_argument(
        "--models-dir", type=Path, default=Path("models"), help="where the bundle goes (default: models)"
    )
    found.add_argument("--version", type=int, help="version of the bundle (default: the next one that is not taken)")
    found.add_argument("--overwrite", action="store_true", help="replace the bundle of this --version")
    found.add_argument(
        "--quick", action="store_true", help="measure on fewer images and draws, for a first look; write nothing"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.version is not None and options.version < 1:
            raise RecipeError(f"--version is {options.version}, and versions begin with 1.")
        if options.overwrite and options.version is None:
            raise RecipeError("--overwrite replaces the bundle of a --version: say which one.")
        run = checkpoint.trained(options.checkpoint)
        if options.version is not None and not options.overwrite:
            versions.refuse_taken(options.models_dir / run.recipe.name / str(options.version))
        with Steps() as steps:
            sets = data.load_both(run.recipe.dataset, options.data_dir, steps)
        if options.quick:
            look(run, sets)
        else:
            report = options.checkpoint.with_name(checkpoint.REPORT)
            finish(run, sets, options.models_dir, report, version=options.version, overwrite=options.overwrite)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
