"""The choice of sharpness and temperature, and the command that writes it into a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from harness.digits import decoded
from service.app import create_app
from service.contract import tone_curve
from service.settings import Settings
from training import card_text, data, rewrite, sharpen
from training.classifier import Judges, judges_of
from training.data import Sets
from training.graphs import Array, Graphs
from training.prior import Prior
from training.sampler import Sampler, sharpened

from . import subset
from .conftest import Run


@pytest.fixture
def sets() -> Sets:
    return data.load_both("mnist", subset.DIRECTORY)


@pytest.fixture
def judges(sets: Sets) -> Judges:
    return judges_of("mnist", sets.train_images, sets.train_labels)


class Blurred(Graphs):
    """A decoder that gives training images, their contrast lowered by a curve. A latent is the index of an image."""

    def __init__(self, sets: Sets, softness: float) -> None:
        levels = np.arange(256) / 255
        light, dark = levels ** (1 / softness), (1 - levels) ** (1 / softness)
        curve = np.rint(255 * light / (light + dark)).astype(np.uint8)
        self.softened = curve[sets.train_images.numpy().clip(1, 254)]

    def images(self, z: Array) -> Any:
        return self.softened[z[:, 0].round().astype(int).clip(0, len(self.softened) - 1)]


def of_images(sets: Sets) -> Prior:
    """A prior that draws the index of a training image of a label: one narrow Gaussian for each image."""
    labels = np.unique(sets.train_labels.numpy())
    members = [np.flatnonzero(sets.train_labels.numpy() == label) for label in labels]
    most = max(map(len, members))
    weights = np.stack([np.pad(np.full(len(each), 1 / len(each)), (0, most - len(each))) for each in members])
    means = np.stack([np.pad(each, (0, most - len(each))) for each in members])[..., None]
    shares = np.array([len(each) for each in members]) / len(sets.train_images)
    arrays = (shares, weights, means, np.full((*means.shape, 1), 1e-3))
    return Prior(labels.astype(np.int64), *(array.astype(np.float32) for array in arrays))


@pytest.mark.parametrize("softness", [1.0, 1.5])
def test_the_contrast_that_a_decoder_has_lost_is_given_back(sets: Sets, judges: Judges, softness: float) -> None:
    choice = sharpen.choose(Blurred(sets, softness), of_images(sets), sets.train_images, judges)
    assert choice.sharpness == pytest.approx(softness, abs=0.15)
    assert sorted(choice.trade) == list(sharpen.TEMPERATURES)


def test_the_temperature_is_lower_where_too_few_samples_look_like_their_label_unless_they_become_too_much_alike(
    finished: Run, sets: Sets, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, files = rewrite.read(finished.bundle)
    graphs, prior = Graphs(files["encoder.onnx"], files["decoder.onnx"]), Prior.from_bytes(files["prior.npz"])
    monkeypatch.setattr(sharpen, "SHARPNESSES", (1.0,))
    monkeypatch.setattr(sharpen, "TEMPERATURES", (sharpen.COOL, 1.0))
    for enough, most, temperature in ((2.0, 1e9, sharpen.COOL), (2.0, 0.0, 1.0), (0.0, 1e9, 1.0)):
        monkeypatch.setattr(sharpen, "ENOUGH", enough)
        monkeypatch.setattr(sharpen, "FARTHER", most)
        assert sharpen.choose(graphs, prior, sets.train_images, judges).temperature == temperature


@pytest.fixture(scope="module")
def bare(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's bundle as one of before: without defaults."""
    folder = tmp_path_factory.mktemp("models") / "mnist-mlp" / "1"
    shutil.copytree(finished.bundle, folder)
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(document | {"sharpness": 1, "temperature": 1}))
    return folder


@pytest.fixture(scope="module")
def sharp(bare: Path) -> Path:
    """What the command makes of it."""
    before = {path.name: path.read_bytes() for path in bare.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, "mnist", subset.SUBSET)
        assert sharpen.main([str(bare), f"--data-dir={subset.DIRECTORY}"]) == 0
    assert {path.name: path.read_bytes() for path in bare.iterdir()} == before
    return bare.with_name("2")


def test_the_next_version_is_what_an_export_writes(finished: Run, sharp: Path) -> None:
    (exported, files), (bundle, written) = rewrite.read(finished.bundle), rewrite.read(sharp)
    assert bundle.id == "mnist-mlp@2"
    assert (bundle.sharpness, bundle.temperature) == (exported.sharpness, exported.temperature)
    assert bundle.metrics == exported.metrics
    assert bundle.sharpness > 1
    named = {"encoder.onnx", "decoder.onnx", "README.md"}  # they name the version
    assert {name for name in files if files[name] != written.get(name)} == named
    assert written["README.md"] == files["README.md"].replace(b"mnist-mlp@1", b"mnist-mlp@2")


def test_its_card_tells_its_defaults_and_shows_the_trade(sharp: Path) -> None:
    bundle, files = rewrite.read(sharp)
    said = f"a sharpness of {bundle.sharpness:g} and a temperature of {bundle.temperature:g},"
    assert said in files["README.md"].decode()
    assert decoded(files[card_text.TRADE]).shape[:2] == (300, 900)


def test_the_service_draws_what_was_judged(sharp: Path) -> None:
    bundle, files = rewrite.read(sharp)
    graphs, prior = Graphs(files["encoder.onnx"], files["decoder.onnx"]), Prior.from_bytes(files["prior.npz"])
    sampler = Sampler(graphs, prior, bundle.sharpness, bundle.temperature)
    with TestClient(create_app(Settings(models_dir=sharp.parents[1], default_model="mnist-mlp"))) as client:
        for options, drawn in (
            ({}, sampler.images(50, 7)),
            ({"label": 3}, sampler.images(50, 7, 3)),
            ({"prior": "normal"}, sampler.normal(50, 7)),
        ):
            said = client.post("/sample", json={"n": 50, "seed": 7, **options}).json()
            np.testing.assert_array_equal(drawn, [decoded(image) for image in said["images"]])


def test_what_is_no_bundle_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sharpen.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path} is not a bundle: ")


def test_sharpened_images_are_those_of_the_curve() -> None:
    images = torch.randint(256, (3, 5, 4, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    np.testing.assert_array_equal(sharpened(images, 1.3), np.frombuffer(tone_curve(1.3), np.uint8)[images])
    np.testing.assert_array_equal(sharpened(images, 1), images)
