from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient

from harness.paths import MODELS
from tests.bundles import write_bundle


def test_the_list_holds_every_contract_with_its_card_and_provider(client: TestClient) -> None:
    body = client.get("/models").json()
    assert body["default"] == "mnist-mlp@2"
    assert body["refused"] == {}
    folder = MODELS / "mnist-mlp" / "2"
    (model,) = [model for model in body["models"] if model["id"] == "mnist-mlp@2"]
    assert model.pop("card") == (folder / "README.md").read_text()
    assert model.pop("provider") == "CPUExecutionProvider"
    assert model.pop("id") == "mnist-mlp@2"
    assert (model.pop("priors"), model.pop("labels")) == (["normal", "aggregate"], list(range(10)))
    assert model.pop("label_names") == []
    assert len(model.pop("latents")) == model["latent_dim"]
    assert model == json.loads((folder / "model.json").read_text())


def test_one_model_is_found_by_name_or_version(start: Callable[..., TestClient]) -> None:
    client = start()
    assert client.get("/models/tiny").json()["id"] == "tiny@2"
    assert client.get("/models/tiny@1").json()["id"] == "tiny@1"
    assert [model["id"] for model in client.get("/models").json()["models"]] == ["colour@1", "tiny@1", "tiny@2"]


def test_an_unknown_model_is_not_found(client: TestClient) -> None:
    answer = client.get("/models/nobody")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "There is no model 'nobody'."


def test_a_refused_bundle_is_shown_with_its_reason(start: Callable[..., TestClient], tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, "broken") / "decoder.onnx").unlink()
    body = start(models_dir=tmp_path).get("/models").json()
    assert [model["id"] for model in body["models"]] == ["tiny@1"]
    assert "decoder.onnx cannot be read" in body["refused"]["broken/1"]
