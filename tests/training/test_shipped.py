"""The bundle in models/mnist-mlp/1, as it is committed."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from service import contract
from service.contract import Contract
from training import card, data, export, recipe
from training.evaluate import EVALUATION_SEED
from training.model import to_signal
from training.objective import distortion, rate, reparametrise

from . import subset
from .test_evaluate import FULL

BUNDLE = subset.ROOT / "models" / "mnist-mlp" / "1"


@pytest.fixture
def shipped() -> Contract:
    return Contract.from_json((BUNDLE / contract.CONTRACT_FILE).read_bytes())


def test_every_file_has_its_hash_and_there_is_no_other(shipped: Contract) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in BUNDLE.iterdir()}
    del found[contract.CONTRACT_FILE]
    assert found == shipped.files


def test_it_was_trained_by_its_recipe(shipped: Contract) -> None:
    assert shipped.recipe == recipe.read("mnist-mlp").model_dump()


def test_its_figures_meet_what_was_asked_and_its_card_tells_them(shipped: Contract) -> None:
    assert shipped.metrics["total"] <= 60.5
    assert shipped.metrics["linear_total"] == pytest.approx(107.85, abs=0.01)
    assert card.row(f"**{shipped.id}**", shipped.metrics) in (BUNDLE / contract.CARD_FILE).read_text()


def test_the_notebook_run_was_made_by_its_recipe() -> None:
    report = json.loads((recipe.RECIPES / "mnist-mlp-notebook.metrics.json").read_text())
    assert report["recipe"] == recipe.read("mnist-mlp-notebook").model_dump()
    assert report["command"] == "python -m training --recipe mnist-mlp-notebook"


def test_onnxruntime_gives_the_golden_outputs() -> None:
    with np.load(BUNDLE / contract.GOLDEN_FILE, allow_pickle=False) as file:
        golden = dict(file)
    encoder = export.session((BUNDLE / contract.ENCODER_FILE).read_bytes())
    decoder = export.session((BUNDLE / contract.DECODER_FILE).read_bytes())
    mu, logvar = encoder.run([contract.MU, contract.LOGVAR], {contract.IMAGE: golden[contract.IMAGE]})
    np.testing.assert_allclose(mu, golden[contract.MU], atol=contract.GOLDEN_TOLERANCE, rtol=0)
    np.testing.assert_allclose(logvar, golden[contract.LOGVAR], atol=contract.GOLDEN_TOLERANCE, rtol=0)
    (image,) = decoder.run([contract.IMAGE], {contract.Z: golden[contract.Z]})
    apart = np.abs(image.astype(int) - golden[contract.GOLDEN_DECODED].astype(int))
    assert apart.max() <= contract.GREY_LEVEL_TOLERANCE


@pytest.mark.skipif(not FULL.is_dir(), reason="the full MNIST is not here; VAE_MNIST_DIR says where it is")
def test_its_graphs_score_what_it_says_on_the_full_test_set(shipped: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    images, _ = data.load("mnist", "test", FULL)
    encoder = export.session((BUNDLE / contract.ENCODER_FILE).read_bytes())
    decoder = export.session((BUNDLE / contract.DECODER_FILE).read_bytes())
    mu, logvar = (torch.from_numpy(each) for each in encoder.run(None, {contract.IMAGE: images.numpy()}))
    noise = torch.Generator().manual_seed(EVALUATION_SEED)
    x = to_signal(images)
    chunks = zip(torch.split(mu, 1000), torch.split(logvar, 1000), strict=True)
    z = torch.cat([reparametrise(*chunk, noise) for chunk in chunks])
    x_hat = torch.from_numpy(decoder.run([contract.X_HAT], {contract.Z: z.numpy()})[0])
    assert distortion(x_hat, x).mean().item() == pytest.approx(shipped.metrics["distortion"], abs=1e-3)
    assert rate(mu, logvar).mean().item() == pytest.approx(shipped.metrics["rate"], abs=1e-3)
