"""From a folder of somebody's colour pictures to answers of the service, with nothing but the two programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from harness.digits import decoded, encoded
from service.app import create_app
from service.settings import Settings
from training import classifier, evaluate
from training.__main__ import main

SHAPE = (12, 18, 3)


def toy(kind: int, draw: np.random.Generator) -> Image.Image:
    """A red disc or a blue bar, somewhere on a light ground."""
    down, across = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centre = draw.uniform((4, 5), (8, 13))
    far = np.hypot(down - centre[0], across - centre[1]) if kind == 0 else np.abs(across - centre[1]) * 1.5
    picture = np.full(SHAPE, 235, np.uint8)
    picture[far < 3] = ((200, 30, 30), (30, 30, 200))[kind]
    return Image.fromarray(picture)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.Generator(np.random.PCG64(0))
    for kind, name in enumerate(("balls", "bars")):
        (tmp_path / "mine" / "toys" / name).mkdir(parents=True)
        for index in range(100):
            toy(kind, draw).save(tmp_path / "mine" / "toys" / name / f"{index:03}.png")
    return tmp_path / "mine"


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_colour_pictures_of_another_size_are_trained_on_exported_and_served(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(classifier, "LEAST_STEPS", 100)
    arguments = {
        "recipe": "mnist-mlp",
        "name": "toys",
        "version": 1,
        "dataset": "folder:toys",
        "data-dir": folder,
        "validation-size": 20,
        "network": network,
        "blocks": 0 if network == "mlp" else 1,
        "hidden": 64 if network == "mlp" else 8,
        "latent-dim": 6,
        "epochs": 60 if network == "mlp" else 20,
        "batch-size": 20,
        "checkpoint-every": 20,
        "prior-components": 3,
        "runs-dir": tmp_path / "runs",
        "models-dir": tmp_path / "models",
    }
    assert main([f"--{name}={value}" for name, value in arguments.items()]) == 0
    bundle = tmp_path / "models" / "toys" / "1"
    assert evaluate.main([str(bundle), f"--data-dir={folder}"]) == 0
    contract = json.loads((bundle / "model.json").read_text())
    assert (contract["dataset"], contract["image_shape"], contract["background"]) == ("folder:toys", list(SHAPE), 235)
    assert str(tmp_path) not in (bundle / "model.json").read_text() + (bundle / "README.md").read_text()

    picture = toy(0, np.random.Generator(np.random.PCG64(1)))
    with TestClient(create_app(Settings(models_dir=tmp_path / "models", default_model="toys"))) as client:
        (model,) = client.get("/models").json()["models"]
        assert (model["id"], model["image_shape"], model["labels"]) == ("toys@1", list(SHAPE), [0, 1])
        headers = {"content-type": "image/png"}
        assert np.shape(client.post("/encode", content=encoded(picture), headers=headers).json()["mu"]) == (1, 6)
        reconstructed = client.post("/reconstruct", content=encoded(picture), headers=headers).json()
        assert decoded(reconstructed["images"][0]).shape == SHAPE
        assert reconstructed["mse"][0] < 0.03  # a blank ground has 0.05
        balls, bars = (client.post("/sample", json={"n": 20, "seed": 1, "label": label}).json() for label in (0, 1))
        assert balls["prior"] == "aggregate"
        reddish = [np.mean([decoded(each)[..., 0] for each in drawn["images"]]) for drawn in (balls, bars)]
        assert reddish[0] > reddish[1]
        again = client.post("/decode", json={"z": balls["z"]}).json()
        assert again["images"] == balls["images"]
        large = encoded(picture.resize((180, 120)))
        assert client.post("/encode", content=large, headers=headers).status_code == 200
        assert client.post("/encode?preprocess=none", content=large, headers=headers).status_code == 422
        assert client.post("/sample", json={"label": 2}).status_code == 404
