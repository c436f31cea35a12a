"""The bundles in models/, as they are committed, and what they promise."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.paths import MODELS
from service import contract
from service.contract import Contract
from training import card_text, classifier, data, recipe, rewrite
from training.figures import PREFIXES
from training.graphs import Graphs
from training.likelihood import Likelihood
from training.onnx_graph import session
from training.prior import Prior
from training.statistics import Statistics

from .subset import FULL

BUNDLES = sorted(path.parent for path in MODELS.glob(f"*/*/{contract.CONTRACT_FILE}"))
LATEST = [path for path in BUNDLES if int(path.name) == max(int(each.name) for each in path.parent.iterdir())]
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: f"{path.parent.name}-{path.name}")
each_latest = pytest.mark.parametrize("bundle", LATEST, ids=lambda path: path.parent.name)
needs_full_mnist = pytest.mark.skipif(
    not FULL.is_dir(), reason="the full MNIST is not here; VAE_MNIST_DIR says where it is"
)


def read(bundle: Path) -> Contract:
    return Contract.from_json((bundle / contract.CONTRACT_FILE).read_bytes())


def test_what_is_shipped() -> None:
    assert [f"{path.parent.name}/{path.name}" for path in BUNDLES] == [
        "fashion-mlp/1",
        "fashion-sharp/1",
        "mnist-mlp/1",
        "mnist-mlp/2",
        "mnist-resmlp/1",
        "mnist-resmlp/2",
        "mnist-sharp/1",
    ]
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 80e6


@each_bundle
def test_every_file_has_its_hash_and_there_is_no_other(bundle: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()}
    del found[contract.CONTRACT_FILE]
    assert found == read(bundle).files


@each_latest
def test_it_was_trained_by_its_recipe_and_its_card_tells_its_figures(bundle: Path) -> None:
    shipped = read(bundle)
    assert recipe.recorded(shipped.recipe, "It") == recipe.read(shipped.name)
    assert card_text.row(f"**{shipped.id}**", shipped.metrics) in (bundle / contract.CARD_FILE).read_text()


@each_latest
def test_it_was_measured_by_the_committed_judges(bundle: Path) -> None:
    shipped = read(bundle)
    for prefix, judge in zip(PREFIXES, classifier.JUDGES, strict=True):
        committed = judge.path(shipped.dataset).read_bytes()
        assert shipped.tools[f"{prefix}classifier"] == f"sha256:{hashlib.sha256(committed).hexdigest()}"
        assert len(committed) <= 500_000


@each_latest
def test_both_judges_know_the_data_set(bundle: Path) -> None:
    shipped = read(bundle)
    least = {"mnist": (0.99, 0.99), "fashion-mnist": (0.89, 0.92)}[shipped.dataset]
    for prefix, accuracy in zip(PREFIXES, least, strict=True):
        assert shipped.metrics[f"{prefix}classifier_accuracy"] >= accuracy


def test_the_notebook_s_network_meets_what_was_asked_of_it() -> None:
    metrics = read(MODELS / "mnist-mlp" / "2").metrics
    assert metrics["total"] <= 59.5
    assert metrics["linear_total"] == pytest.approx(107.85, abs=0.01)
    assert metrics["frechet_aggregate"] <= metrics["frechet_normal"] / 6
    assert metrics["label_accuracy"] >= 0.96


def test_the_best_model_meets_what_was_asked_of_it() -> None:
    bundle = MODELS / "mnist-resmlp" / "1"
    shipped = read(bundle)
    assert shipped.latent_dim == 20
    assert shipped.metrics["total"] <= 51.0
    assert shipped.metrics["onnx_bytes"] <= 12e6
    assert shipped.metrics["onnx_bytes"] == sum(path.stat().st_size for path in bundle.glob("*.onnx"))
    assert shipped.metrics["frechet_aggregate"] <= shipped.metrics["frechet_normal"] / 6
    assert shipped.metrics["frechet_aggregate"] <= 5 * shipped.metrics["frechet_floor"]
    assert shipped.metrics["label_accuracy"] >= 0.975


def test_the_refined_encoder_meets_what_was_asked_of_it() -> None:
    plain, refined = (read(MODELS / "mnist-resmlp" / version) for version in ("1", "2"))
    assert refined.identity == plain.identity
    assert refined.metrics["total"] <= 49.2
    assert refined.metrics["total_unrefined"] == plain.metrics["total"]
    assert refined.metrics["onnx_bytes"] <= 20e6
    assert refined.metrics["frechet_aggregate"] <= 2.5 * refined.metrics["frechet_floor"]
    assert refined.metrics["nearest_samples"] >= 0.85 * refined.metrics["nearest_test"]
    for prefix in PREFIXES:
        assert refined.metrics[f"{prefix}label_accuracy"] >= 0.98


def test_the_model_for_samples_meets_what_was_asked_of_it() -> None:
    metrics = read(MODELS / "mnist-sharp" / "1").metrics
    assert metrics["psnr"] >= 23
    assert metrics["nearest_samples"] >= 0.85 * metrics["nearest_test"]
    for prefix in PREFIXES:
        assert metrics[f"{prefix}frechet_aggregate"] <= 1.5 * metrics[f"{prefix}frechet_floor"]
        assert metrics[f"{prefix}label_accuracy"] >= 0.985
        assert metrics[f"{prefix}recall"] >= 0.9 * metrics[f"{prefix}recall_training"]


def test_the_model_for_samples_of_clothes_is_better_than_the_older_one_as_far_as_was_asked() -> None:
    older, metrics = (read(MODELS / name / "1").metrics for name in ("fashion-mlp", "fashion-sharp"))
    for prefix in PREFIXES:
        assert metrics[f"{prefix}frechet_aggregate"] <= older[f"{prefix}frechet_aggregate"] / 3
        assert metrics[f"{prefix}label_accuracy"] >= 0.875
    assert metrics["second_classifier_accuracy"] >= 0.92
    assert metrics["second_label_accuracy"] >= 0.88
    assert metrics["nearest_samples"] >= 0.85 * metrics["nearest_test"]


@pytest.mark.parametrize("path", sorted(card_text.RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_run_was_made_by_its_recipe(path: Path) -> None:
    report = json.loads(path.read_text())
    assert recipe.recorded(report["recipe"], "It") == recipe.read(path.stem)


def test_the_calibrated_recipe_s_reconstructions_are_as_sharp_as_was_asked() -> None:
    report = json.loads((card_text.RECORDED / "mnist-mlp-calibrated.json").read_text())
    assert report["recipe"]["latent_dim"] == 20
    assert report["metrics"]["psnr"] >= 21


def test_the_binarised_recipe_is_as_likely_as_was_asked() -> None:
    metrics = json.loads((card_text.RECORDED / "mnist-binarised.json").read_text())["metrics"]
    assert metrics["weights"] <= 1.5e6
    assert metrics["nll"] <= 86.0


@each_latest
@pytest.mark.parametrize("name", [contract.STATISTICS_FILE, contract.MAP_FILE])
def test_it_has_statistics_and_a_map_and_they_are_small(bundle: Path, name: str) -> None:
    assert name in read(bundle).files
    assert (bundle / name).stat().st_size < 100_000


@needs_full_mnist
def test_an_export_would_write_its_statistics_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bundle, files = rewrite.read(MODELS / "mnist-mlp" / "2")
    graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
    prior = Prior.from_bytes(files[contract.PRIOR_FILE])
    found = Statistics.measure(graphs, recipe.recorded(bundle.recipe, "It"), prior, data.load_both("mnist", FULL))
    shipped = Statistics.from_bytes(files[contract.STATISTICS_FILE])
    for name in contract.STATISTICS_ARRAYS:
        np.testing.assert_allclose(getattr(found, name), getattr(shipped, name), rtol=1e-3, atol=1e-4, err_msg=name)


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


@each_latest
def test_a_row_of_a_batch_equals_the_row_alone(bundle: Path) -> None:
    with np.load(bundle / contract.GOLDEN_FILE, allow_pickle=False) as file:
        images = np.tile(file[contract.IMAGE], (4, 1, 1))  # 64
    encoder = session((bundle / contract.ENCODER_FILE).read_bytes())
    decoder = session((bundle / contract.DECODER_FILE).read_bytes())
    mu = np.concatenate([encoder.run([contract.MU], {contract.IMAGE: image[None]})[0] for image in images])
    pictures = np.concatenate([decoder.run([contract.IMAGE], {contract.Z: z[None]})[0] for z in mu])
    for batch in (*range(1, 18), 31, 32, 33, 64):
        np.testing.assert_array_equal(encoder.run([contract.MU], {contract.IMAGE: images[:batch]})[0], mu[:batch])
        np.testing.assert_array_equal(decoder.run([contract.IMAGE], {contract.Z: mu[:batch]})[0], pictures[:batch])


@needs_full_mnist
@pytest.mark.parametrize("name", ["mnist-mlp/2", "mnist-resmlp/1", "mnist-sharp/1"])
def test_its_graphs_score_what_it_says_on_the_full_test_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bundle = MODELS / name
    shipped = read(bundle)
    sets = data.load_both("mnist", FULL)
    graphs = Graphs(*((bundle / each).read_bytes() for each in (contract.ENCODER_FILE, contract.DECODER_FILE)))
    likelihood = Likelihood.of(graphs, recipe.recorded(shipped.recipe, "It"), sets.train_images)
    found = torch.stack(likelihood.terms(graphs, sets.test_images)).mean(1).tolist()
    assert found == pytest.approx([shipped.metrics["distortion"], shipped.metrics["rate"]], abs=1e-3)
