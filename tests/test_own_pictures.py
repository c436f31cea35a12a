"""From a folder of somebody's colour pictures to answers of the service, with nothing but the documented commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from harness.digits import decoded, encoded
from harness.paths import ROOT
from service.app import create_app
from service.settings import Settings
from tests.training.pictures import SHAPE, toy, write_pictures
from training import classifier
from training.__main__ import main

LABELS = {"gulls": 190, "kites": 110}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 300 pictures of birds (red discs and blue bars), where commands are called."""
    torch.set_num_threads(1)
    monkeypatch.setattr(classifier, "LEAST_STEPS", 100)
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "mine" / "birds", LABELS)
    return tmp_path


def documented(document: Path, command: str) -> list[str]:
    """The options of a documented command on the folder of birds, with the place of these pictures."""
    found = re.findall(rf"^\.venv/bin/python -m training {command} (.*birds.*?)(?: +#.*)?$", document.read_text(), re.M)
    assert found, f"{document} has no such command"
    return [command, *shlex.split(found[0].replace("--data-dir DIR", "--data-dir mine"))]


@pytest.mark.parametrize("document", ["README.md", "docs/models.md"])
def test_the_documented_command_turns_300_pictures_into_a_bundle(
    document: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--epochs=100", "--checkpoint-every=100"]
    assert main([*documented(ROOT / document, "train"), *few]) == 0
    told = capsys.readouterr().out
    assert "54 of the 270 training images validate, a fifth, instead of 5,000." in told
    assert "There are only 30 test images, so all figures are rough" in told
    bundle = place / "models" / "birds" / "1"
    contract = json.loads((bundle / "model.json").read_text())
    assert (contract["dataset"], contract["image_shape"], contract["background"]) == ("folder:birds", list(SHAPE), 235)
    assert contract["label_names"] == ["gulls", "kites"]
    assert contract["metrics"]["test_images"] == 30
    # The floor is as low as it is only if both labels are in both sets, as often in each.
    assert contract["metrics"]["frechet_floor"] < contract["metrics"]["frechet_normal"] / 3
    card = (bundle / "README.md").read_text()
    assert "one row for each label (gulls, kites): " in card
    assert "**There are only 30 test images, so all figures are rough" in card
    assert str(place) not in (bundle / "model.json").read_text() + card


def test_the_documented_command_measures_the_bundle_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle of a convolutional network."""
    conv = ["--network=conv", "--blocks=1", "--hidden=8", "--latent-dim=6", "--epochs=4", "--checkpoint-every=4"]
    assert main([*documented(ROOT / "README.md", "train"), *conv, "--prior-components=3"]) == 0
    capsys.readouterr()
    assert main(documented(ROOT / "README.md", "evaluate")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((place / "models/birds/1/model.json").read_text())["metrics"]
    assert captured.err.endswith("The figures of models/birds/1 are what was measured.\n")


def test_the_bundle_is_served(place: Path) -> None:
    small = ["--hidden=64", "--latent-dim=6", "--batch-size=20", "--epochs=40", "--checkpoint-every=40"]
    assert main([*documented(ROOT / "README.md", "train"), *small, "--prior-components=3"]) == 0
    picture = toy(0, np.random.Generator(np.random.PCG64(1)))
    with TestClient(create_app(Settings(models_dir=place / "models", default_model="birds"))) as client:
        (model,) = client.get("/models").json()["models"]
        assert (model["id"], model["image_shape"]) == ("birds@1", list(SHAPE))
        assert (model["labels"], model["label_names"]) == ([0, 1], ["gulls", "kites"])
        headers = {"content-type": "image/png"}
        assert np.shape(client.post("/encode", content=encoded(picture), headers=headers).json()["mu"]) == (1, 6)
        reconstructed = client.post("/reconstruct", content=encoded(picture), headers=headers).json()
        assert decoded(reconstructed["images"][0]).shape == SHAPE
        assert reconstructed["mse"][0] < 0.03  # a blank ground has 0.05
        gulls, kites = (client.post("/sample", json={"n": 20, "seed": 1, "label": label}).json() for label in (0, 1))
        assert gulls["prior"] == "aggregate"
        assert client.post("/sample", json={"n": 20, "seed": 1, "label": "kites"}).json() == kites
        reddish = [np.mean([decoded(each)[..., 0] for each in drawn["images"]]) for drawn in (gulls, kites)]
        assert reddish[0] > reddish[1]
        again = client.post("/decode", json={"z": gulls["z"]}).json()
        assert again["images"] == gulls["images"]
        large = encoded(picture.resize((180, 120)))
        assert client.post("/encode", content=large, headers=headers).status_code == 200
        assert client.post("/encode?preprocess=none", content=large, headers=headers).status_code == 422
        assert client.post("/sample", json={"label": 2}).status_code == 404
