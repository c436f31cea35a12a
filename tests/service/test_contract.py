from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.paths import MODELS
from service.contract import SHARPNESS_LIMIT, Contract, graph_metadata, tone_curve

SHIPPED = (MODELS / "mnist-mlp" / "2" / "model.json").read_text()


def test_the_shipped_contract_survives_reading_and_writing() -> None:
    assert Contract.from_json(SHIPPED).to_json() == SHIPPED


def test_names_of_labels_are_optional() -> None:
    assert Contract.from_json(SHIPPED).label_names == ()
    named = Contract.from_json(json.dumps(json.loads(SHIPPED) | {"label_names": ["dog", "cat"]}))
    assert named.label_names == ("dog", "cat")
    assert Contract.from_json(named.to_json()) == named


def test_the_defaults_of_samples_are_optional() -> None:
    shipped = Contract.from_json(SHIPPED)
    assert (shipped.sharpness, shipped.temperature) == (1, 1)
    sharp = Contract.from_json(json.dumps(json.loads(SHIPPED) | {"sharpness": 1.3, "temperature": 0}))
    assert (sharp.sharpness, sharp.temperature) == (1.3, 0)
    assert Contract.from_json(sharp.to_json()) == sharp


def test_the_tone_curve_is_the_activation_times_the_sharpness() -> None:
    x_hat = np.arange(256) / 127.5 - 1
    for sharpness in (1.0, 1.25, 3.0, SHARPNESS_LIMIT):
        expected = (np.tanh(sharpness * np.arctanh(x_hat[1:-1])) + 1) * 127.5
        levels = np.frombuffer(tone_curve(sharpness), np.uint8)
        assert np.abs(levels[1:-1] - expected).max() <= 0.5 + 1e-9
        assert (levels[0], levels[-1]) == (0, 255)
        assert (np.diff(levels.astype(int)) >= 0).all()
    assert tone_curve(1.0) == bytes(range(256))


def test_the_metadata_of_the_graphs_has_only_strings() -> None:
    metadata = graph_metadata(Contract.from_json(SHIPPED))
    assert metadata["vae.name"] == "mnist-mlp"
    assert metadata["vae.image_shape"] == "28,28"
    assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"contract_version": 2}, "contract_version is 2, and this code reads 1"),
        ({"surprise": 1}, "missing or unknown keys: surprise"),
        ({"version": "1"}, "version is not a JSON integer"),
        ({"version": True}, "version is not a JSON integer"),
        ({"version": 0}, "version 0 is not a positive integer"),
        ({"name": "../mnist"}, "name '../mnist' is not like"),
        ({"identity": "abc"}, "identity 'abc' is not a SHA-256"),
        ({"image_shape": [28]}, r"image_shape \[28\] is neither"),
        ({"image_shape": [28, 28, 4]}, r"image_shape \[28, 28, 4\] is neither"),
        ({"image_shape": [28, 0]}, r"image_shape \[28, 0\] is neither"),
        ({"image_shape": [28, 2.5]}, "image_shape is not a list of integers"),
        ({"background": 256}, "background 256 is not a grey level"),
        ({"latent_dim": 0}, "latent_dim 0 is not a positive integer"),
        ({"files": {}}, "files lacks one of encoder.onnx"),
        ({"label_names": "cat"}, "label_names is not a JSON array"),
        ({"label_names": [1]}, "label_names is not a list of strings"),
        ({"label_names": ["cat", "cat"]}, "label_names has an empty name or one twice"),
        ({"label_names": [""]}, "label_names has an empty name or one twice"),
        ({"sharpness": 0.9}, "sharpness 0.9 is not between 1 and 8"),
        ({"sharpness": 8.5}, "sharpness 8.5 is not between 1 and 8"),
        ({"sharpness": True}, "sharpness is not a JSON number"),
        ({"temperature": -1}, "temperature -1 is not between 0 and 100"),
        ({"temperature": "1"}, "temperature is not a JSON number"),
        ({"temperature": None}, "temperature is not a JSON number"),
        ({"files": {"encoder.onnx": 7}}, "files is not an object of strings"),
    ],
)
def test_an_invalid_contract_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Contract.from_json(json.dumps(json.loads(SHIPPED) | changes))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", ".hidden", "model.json", ""])
def test_a_contract_cannot_point_outside_its_folder(name: str) -> None:
    document = json.loads(SHIPPED)
    document["files"][name] = "0" * 64
    with pytest.raises(ValueError, match="not a plain file name"):
        Contract.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff".encode("utf-8", "surrogateescape")])
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        Contract.from_json(text)


def test_a_missing_key_is_named() -> None:
    document = json.loads(SHIPPED)
    del document["latent_dim"]
    with pytest.raises(ValueError, match="missing or unknown keys: latent_dim"):
        Contract.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("recipe", "draws"),
    [
        ({"refinement_steps": 4, "refinement_draws": 2}, 2),
        ({"refinement_steps": 0, "refinement_draws": 2}, 0),
        ({}, 0),
        ({"refinement_steps": "4", "refinement_draws": [2]}, 0),
        ({"refinement_steps": 4, "refinement_draws": -2}, 0),
    ],
)
def test_the_draws_of_a_refined_encoder_are_in_its_recipe(recipe: dict[str, Any], draws: int) -> None:
    assert replace(Contract.from_json(SHIPPED), recipe=recipe).refinement_draws == draws
