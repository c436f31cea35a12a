"""Bundles of networks that are not trained, of other kinds and sizes than the shipped ones."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch

from harness.digits import digits
from harness.paths import MODELS
from service import contract
from service.contract import Contract
from training import networks, onnx_model, refine
from training.model import VAE, to_image, to_signal
from training.recipe import Recipe
from training.refinement import Refined

# How long a network takes does not depend on its weights.
UNTRAINED: Final = (
    {"name": "conv-32", "network": "conv", "hidden": 32, "blocks": 2},
    {"name": "conv-128", "network": "conv", "hidden": 128, "blocks": 4},
    {"name": "resmlp-2048", "network": "resmlp", "hidden": 2048, "blocks": 4},
)
ANY: Final = {
    "dataset": "mnist",
    "validation_size": 1_000,
    "latent_dim": 20,
    "objective": "squared-error",
    "epochs": 1,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "averaging_decay": 0.0,
    "seed": 0,
    "checkpoint_every": 1,
}

VARIANCE: Final = 0.5  # of the squared error's likelihood


def write_untrained(folder: Path, *wanted: str) -> None:
    """Write a bundle with random weights for each of UNTRAINED, or for those of these names, to `folder`."""
    for numbers in UNTRAINED:
        if not wanted or numbers["name"] in wanted:
            recipe = Recipe.model_validate(ANY | numbers)
            _write(folder, recipe, networks.build(recipe, (28, 28), torch.Generator().manual_seed(0)))


def write_refined(folder: Path) -> None:
    """Write a bundle with the weights of mnist-resmlp@1, whose encoder refines its posteriors, to `folder`."""
    run = refine.read(MODELS / "mnist-resmlp" / "1")
    recipe = run.recipe.model_copy(update={"name": "refined", "refinement_steps": 4, "refinement_draws": 4})
    _write(folder, recipe, Refined(run.model, recipe, VARIANCE))


@torch.no_grad()
def _write(folder: Path, recipe: Recipe, model: VAE) -> None:
    place = folder / recipe.name / "1"
    place.mkdir(parents=True)
    image = torch.from_numpy(digits()[:16].copy())
    model.eval()
    described = Contract(
        name=recipe.name,
        version=1,
        identity=onnx_model.identity(model),
        dataset=recipe.dataset,
        image_shape=(28, 28),
        background=0,
        latent_dim=recipe.latent_dim,
        objective=recipe.objective,
        recipe=recipe.model_dump(),
        metrics={"total": 0.0},
        files={},
        tools={},
        git_commit="unknown",
    )
    encoder, decoder = onnx_model.graphs(model, image, contract.graph_metadata(described))
    mu, logvar = model.encode(to_signal(image))
    golden = io.BytesIO()
    np.savez(
        golden,
        allow_pickle=False,
        **{
            contract.IMAGE: image.numpy(),
            contract.MU: mu.numpy(),
            contract.LOGVAR: logvar.numpy(),
            contract.Z: mu.numpy(),
            contract.GOLDEN_DECODED: to_image(model.decode(mu)).numpy(),
        },
    )
    files = {
        contract.ENCODER_FILE: encoder,
        contract.DECODER_FILE: decoder,
        contract.GOLDEN_FILE: golden.getvalue(),
        contract.CARD_FILE: f"# {described.id}\n\nUntrained.\n".encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[contract.CONTRACT_FILE] = json.dumps(dataclasses.asdict(described) | {"files": hashes}).encode()
    for name, content in files.items():
        (place / name).write_bytes(content)
