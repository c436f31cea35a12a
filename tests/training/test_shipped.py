"""The bundles in models/, as they are committed, and what they promise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from service import contract
from service.contract import Contract
from training import data
from training.evaluate import Graphs, Likelihood
from training.onnx_graph import session
from training.recipe import Recipe

from . import subset
from .subset import FULL

MODELS = subset.ROOT / "models"
BUNDLES = sorted(path.parent for path in MODELS.glob(f"*/*/{contract.CONTRACT_FILE}"))
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: f"{path.parent.name}-{path.name}")
needs_full_mnist = pytest.mark.skipif(
    not FULL.is_dir(), reason="the full MNIST is not here; VAE_MNIST_DIR says where it is"
)


def read(bundle: Path) -> Contract:
    return Contract.from_json((bundle / contract.CONTRACT_FILE).read_bytes())


@each_bundle
def test_every_file_has_its_hash_and_there_is_no_other(bundle: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()}
    del found[contract.CONTRACT_FILE]
    assert found == read(bundle).files


@each_bundle
def test_onnxruntime_gives_the_golden_outputs(bundle: Path) -> None:
    with np.load(bundle / contract.GOLDEN_FILE, allow_pickle=False) as file:
        golden = dict(file)
    encoder = session((bundle / contract.ENCODER_FILE).read_bytes())
    decoder = session((bundle / contract.DECODER_FILE).read_bytes())
    mu, logvar = encoder.run([contract.MU, contract.LOGVAR], {contract.IMAGE: golden[contract.IMAGE]})
    np.testing.assert_allclose(mu, golden[contract.MU], atol=contract.GOLDEN_TOLERANCE, rtol=0)
    np.testing.assert_allclose(logvar, golden[contract.LOGVAR], atol=contract.GOLDEN_TOLERANCE, rtol=0)
    (image,) = decoder.run([contract.IMAGE], {contract.Z: golden[contract.Z]})
    apart = np.abs(image.astype(int) - golden[contract.GOLDEN_DECODED].astype(int))
    assert apart.max() <= contract.GREY_LEVEL_TOLERANCE


@needs_full_mnist
@pytest.mark.parametrize("name", ["mnist-mlp/1"])
def test_its_graphs_score_what_it_says_on_the_full_test_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bundle = MODELS / name
    shipped = read(bundle)
    images, _ = data.load("mnist", "test", FULL)
    graphs = Graphs(*((bundle / each).read_bytes() for each in (contract.ENCODER_FILE, contract.DECODER_FILE)))
    terms = Likelihood(Recipe.model_validate(shipped.recipe)).terms(graphs, images)
    found = torch.stack(terms).mean(1).tolist()
    assert found == pytest.approx([shipped.metrics["distortion"], shipped.metrics["rate"]], abs=1e-3)
