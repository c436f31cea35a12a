"""From a folder of somebody's colour pictures to answers of the service, with nothing but the documented commands."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
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


NETWORKS = {
    "mlp": ["--hidden=64", "--epochs=40"],
    "conv": ["--network=conv", "--hidden=8", "--blocks=1", "--epochs=16"],
}
SMALL = ["--latent-dim=6", "--batch-size=20", "--checkpoint-every=40", "--prior-components=3"]


@dataclass(frozen=True)
class Place:
    """The directory where the commands were called, and what they printed."""

    path: Path
    told: str

    @property
    def bundle(self) -> Path:
        return self.path / "models" / "birds" / "1"


@pytest.fixture(scope="module", params=NETWORKS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A directory with 300 pictures of birds (red discs, blue bars), where the documented command has trained on them.

    The network is smaller than the recipe's.
    """
    path = tmp_path_factory.mktemp("birds")
    write_pictures(path / "mine" / "birds", LABELS)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as told:
        patch.setattr(classifier, "LEAST_STEPS", 50)
        patch.chdir(path)
        assert main([*documented("train"), *SMALL, *NETWORKS[request.param]]) == 0
        yield Place(path, told.getvalue())


def documented(command: str) -> list[str]:
    """The options of a documented command on the folder of birds, with the place of these pictures."""
    document = (ROOT / "docs" / "training.md").read_text()
    found = re.findall(rf"^\.venv/bin/python -m training {command} (.*birds.*?)(?: +#.*)?$", document, re.M)
    assert found, f"docs/training.md has no such command: {command}"
    return [command, *shlex.split(found[0].replace("--data-dir DIR", "--data-dir mine"))]


def test_the_documented_command_turns_300_pictures_into_a_bundle(place: Place) -> None:
    assert "54 of the 270 training images validate, a fifth, instead of 5,000." in place.told
    assert "There are only 30 test images, so all figures are rough" in place.told
    contract = json.loads((place.bundle / "model.json").read_text())
    assert (contract["dataset"], contract["image_shape"], contract["background"]) == ("folder:birds", list(SHAPE), 235)
    assert contract["label_names"] == ["gulls", "kites"]
    assert contract["metrics"]["test_images"] == 30
    # The floor is low only because training and test part have the same share of each label.
    assert contract["metrics"]["frechet_floor"] < contract["metrics"]["frechet_normal"] / 3
    card = (place.bundle / "README.md").read_text()
    assert "one row for each label (gulls, kites): " in card
    assert "**There are only 30 test images, so all figures are rough" in card
    assert str(place.path) not in (place.bundle / "model.json").read_text() + card


def test_the_documented_command_measures_the_bundle_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(documented("evaluate")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((place.bundle / "model.json").read_text())["metrics"]
    assert captured.err.endswith("The figures of models/birds/1 are what was measured.\n")


def test_the_bundle_is_served(place: Place) -> None:
    picture = toy(0, np.random.Generator(np.random.PCG64(1)))
    with TestClient(create_app(Settings(models_dir=place.path / "models", default_model="birds"))) as client:
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
