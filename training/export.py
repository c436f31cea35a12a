"""Export: from a checkpoint to a model bundle, models/<name>/<version>/, that the service will accept.

    python -m training.export runs/mnist-mlp/checkpoint.pt --data-dir DIR

Two ONNX graphs with grey levels at their doors, proved against PyTorch on real test images before anything is
written; the prior that was fitted to the codes (prior.npz); a few test images with the outputs PyTorch gave
(golden.npz); the contract (model.json); the card with its figures, which are measured on those graphs. The bundle
appears whole, by one rename, and the same checkpoint gives the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from service import contract
from service.contract import Contract
from training import card, checkpoint, classifier, data, onnx_graph
from training.checkpoint import Trained
from training.data import Sets
from training.errors import ExportError, TrainingError
from training.evaluate import Graphs, evaluate
from training.model import VAE, to_image, to_signal
from training.objective import reparametrise
from training.prior import Prior
from training.recipe import Recipe, validated

PARITY_BATCHES: Final = (1, 2, 7, 64)
GOLDEN_IMAGES: Final = 16
GOLDEN_SEED: Final = 0
ROOT: Final = Path(__file__).resolve().parent.parent

Array = npt.NDArray[Any]


class Encoder(nn.Module):
    """image uint8 [N, *image_shape] -> mu, logvar float32 [N, L]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The graph's work."""
        return self.model.encode(to_signal(image))


class Decoder(nn.Module):
    """z float32 [N, L] -> image uint8 [N, *image_shape], x_hat float32 of the same shape in [-1, 1]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The graph's work."""
        x_hat = self.model.decode(z)
        return to_image(x_hat), x_hat


def export(run: Trained, sets: Sets, models_dir: Path, *, overwrite: bool = False) -> tuple[Path, Contract]:
    """Write the bundle of a finished run; return its folder and what its model.json says.

    Parity is proved and quality measured on the test set; the prior is fitted to the codes of the training images. A
    bundle of equal bytes is left as it is. Raises ExportError, in one sentence, when the graphs do not agree with
    PyTorch or another bundle is in the way and not to be overwritten.
    """
    # Where somebody keeps a folder of pictures is nobody else's business.
    recipe = run.recipe.model_copy(update={"dataset": data.published(run.recipe.dataset)})
    model = run.model
    judge = classifier.judge_of(recipe.dataset, sets.train_images, sets.train_labels)
    bundle = Contract(
        name=recipe.name,
        version=recipe.version,
        identity=identity(model),
        dataset=recipe.dataset,
        image_shape=model.architecture.image_shape,
        background=data.background(recipe.dataset, sets.train_images),
        latent_dim=recipe.latent_dim,
        objective=recipe.objective,
        recipe=recipe.model_dump(),
        metrics={},
        files={},
        tools=tools() | {"classifier": f"sha256:{judge.sha256}"},
        git_commit=git_commit(),
    )
    metadata = contract.graph_metadata(bundle)
    encoder = onnx_graph.graph(
        Encoder(model),
        sets.test_images[:2],
        inputs=[contract.IMAGE],
        outputs=[contract.MU, contract.LOGVAR],
        metadata=metadata,
    )
    decoder = onnx_graph.graph(
        Decoder(model),
        torch.zeros(2, recipe.latent_dim),
        inputs=[contract.Z],
        outputs=[contract.IMAGE, contract.X_HAT],
        metadata=metadata,
    )
    prove_parity(model, encoder, decoder, sets.test_images)

    graphs = Graphs(encoder, decoder)
    prior = fit_prior(graphs, recipe, sets)
    bundle = dataclasses.replace(bundle, metrics=evaluate(graphs, recipe, prior, sets, judge))
    files = {
        contract.ENCODER_FILE: encoder,
        contract.DECODER_FILE: decoder,
        contract.PRIOR_FILE: prior.to_bytes(),
        contract.GOLDEN_FILE: _golden(model, sets.test_images, sets.test_labels),
    }
    files |= card.write(bundle, graphs, prior, sets, run.history)
    bundle = dataclasses.replace(
        bundle, files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    )
    files[contract.CONTRACT_FILE] = bundle.to_json().encode()
    if Contract.from_json(files[contract.CONTRACT_FILE]) != bundle:
        raise ExportError(f"{contract.CONTRACT_FILE} does not read back as it was written.")
    folder = models_dir / recipe.name / str(recipe.version)
    publish(files, folder, overwrite=overwrite)
    return folder, bundle


def fit_prior(graphs: Graphs, recipe: Recipe, sets: Sets) -> Prior:
    """The mixtures of the training images' codes, as the encoder's graph gives them."""
    mu, _ = graphs.encode(sets.train_images)
    return Prior.fit(mu.numpy(), sets.train_labels.numpy(), recipe.prior_components)


def identity(model: VAE) -> str:
    """The SHA-256 of a model's weights: each tensor's name, shape and float32 bytes, little-endian, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def tools() -> dict[str, str]:
    """The versions of what made the numbers."""
    packages = ("numpy", "onnx", "onnxruntime", "onnxscript", "scikit-learn", "torch")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def git_commit() -> str:
    """The last commit that changed what makes bundles; "-dirty" when it differs now; "unknown" outside a checkout.

    Not the commit that is checked out: one elsewhere in the repository must not make another bundle of equal weights.
    """
    code = ("training", "service/contract.py", str(card.NOTEBOOK_RUN.relative_to(card.RECORDED.parent.parent)))

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # installed inside somebody else's checkout
            return "unknown"
        commit = git("log", "-1", "--format=%H", "--", *code)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


@torch.no_grad()
def prove_parity(model: VAE, encoder: bytes, decoder: bytes, images: Tensor) -> None:
    """Raise ExportError unless onnxruntime gives what PyTorch gives, on real images, at several batch sizes."""
    encode, decode = onnx_graph.session(encoder), onnx_graph.session(decoder)
    for batch in PARITY_BATCHES:
        image = images[:batch]
        mu, logvar = model.encode(to_signal(image))
        found = encode.run([contract.MU, contract.LOGVAR], {contract.IMAGE: image.numpy()})
        for name, wanted, got in zip((contract.MU, contract.LOGVAR), (mu, logvar), found, strict=True):
            _agree(f"{name} at batch {batch}", wanted.numpy(), got, contract.EXPORT_TOLERANCE)
        x_hat = model.decode(mu)
        found = decode.run([contract.IMAGE, contract.X_HAT], {contract.Z: mu.numpy()})
        _agree(f"image at batch {batch}", to_image(x_hat).numpy(), found[0], contract.GREY_LEVEL_TOLERANCE)
        _agree(f"x_hat at batch {batch}", x_hat.numpy(), found[1], contract.EXPORT_TOLERANCE)


def publish(files: dict[str, bytes], folder: Path, *, overwrite: bool) -> None:
    """Make `folder` hold exactly these files, at once or not at all.

    Equal bytes are left alone. Raises ExportError when the folder holds anything else and `overwrite` is not set;
    with it the old folder makes way by one rename and the new one takes its place by the next.
    """
    if folder.exists():
        present = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        if present == files:
            print(f"{folder} already holds this very bundle; it is left as it is.")
            return
        if not overwrite:
            raise ExportError(
                f"{folder} holds another bundle: `python -m training.export CHECKPOINT` replaces it with --overwrite, "
                "and writes beside it with --version N."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In the same file system, and with a name that nobody takes for a version.
    workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new, old = workshop / "new", workshop / "old"
        new.mkdir()
        for name, content in files.items():
            with (new / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        checkpoint.sync_directory(new)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
        checkpoint.sync_directory(folder.parent)
    finally:
        shutil.rmtree(workshop)


@torch.no_grad()
def _golden(model: VAE, images: Tensor, labels: Tensor) -> bytes:
    """golden.npz: real test images, one or two of each label, with what PyTorch makes of them."""
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


def _agree(what: str, wanted: Array, got: Array, tolerance: float) -> None:
    apart = float(np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max())
    if not apart <= tolerance:  # so that NaN is a disagreement too
        raise ExportError(f"No bundle is written: {what} is {apart:.2g} from PyTorch's, and {tolerance:g} is allowed.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description="Export a checkpoint as a model bundle."
    )
    parser.add_argument("checkpoint", type=Path, help="a finished run's checkpoint.pt")
    parser.add_argument(
        "--data-dir", type=Path, help="directory of the data set's files; without it they are downloaded"
    )
    parser.add_argument(
        "--models-dir", type=Path, default=Path("models"), help="where the bundle goes (default: models)"
    )
    parser.add_argument("--version", type=int, help="version of the bundle (default: the recipe's)")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle of this name and version")
    options = parser.parse_args(arguments)
    try:
        run = checkpoint.trained(options.checkpoint)
        if options.version is not None:
            recipe = validated(run.recipe.model_dump() | {"version": options.version}, "The bundle's recipe")
            run = dataclasses.replace(run, recipe=recipe)
        sets = data.load_both(run.recipe.dataset, options.data_dir)
        folder, bundle = export(run, sets, options.models_dir, overwrite=options.overwrite)
        card.report(run, bundle, options.checkpoint.with_name(card.REPORT))
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder} scores {bundle.metrics['total']:.2f} per image on the test set.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
