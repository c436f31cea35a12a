from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import decoded, digits, labels
from service.api.answer_schemas import SampleAnswer
from service.images.codec import npy_bytes as npy
from service.inference.autoencoder import noise
from tests.bundles import seal, write_bundle


def test_the_default_is_sixteen_images(client: TestClient) -> None:
    body = client.post("/sample", json={}).json()
    assert list(body) == ["model", "images", "z", "seed", "prior", "temperature", "sharpness"]
    SampleAnswer.model_validate(body)
    assert len(body["images"]) == len(body["z"]) == 16
    assert decoded(body["images"][0]).shape == (28, 28)
    assert body["prior"] == "aggregate"


def test_the_seed_and_prior_of_an_answer_make_it_again(client: TestClient) -> None:
    first = client.post("/sample", json={"n": 3}).json()
    again = client.post("/sample", json={"n": 3, "seed": first["seed"], "prior": first["prior"]}).json()
    assert again == first
    decoded_again = client.post("/decode", json={"z": first["z"], "sharpness": first["sharpness"]}).json()
    assert decoded_again["images"] == first["images"]


def test_z_is_seeded_noise_times_the_temperature(client: TestClient) -> None:
    body = client.post("/sample", json={"n": 3, "seed": 5, "temperature": 0.5, "prior": "normal"}).json()
    np.testing.assert_array_equal(np.array(body["z"], np.float32), noise((3, 20), 5) * np.float32(0.5))


def test_a_grid_has_headers_with_its_model_seed_and_prior(client: TestClient) -> None:
    answer = client.post("/sample", json={"n": 10, "seed": 1}, headers={"accept": "image/png"})
    assert decoded(answer.content).shape == (3 * 28, 4 * 28)
    assert (answer.headers["x-model"], answer.headers["x-seed"], answer.headers["x-prior"]) == (
        "mnist-mlp@2",
        "1",
        "aggregate",
    )


def test_npy_is_the_images(client: TestClient) -> None:
    answer = client.post("/sample", json={"n": 2}, headers={"accept": "application/x-npy"})
    array = np.load(io.BytesIO(answer.content))
    assert array.dtype == np.uint8
    assert array.shape == (2, 28, 28)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"n": 0}, "/n"),
        ({"n": -1}, "/n"),
        ({"n": 1.5}, "/n"),
        ({"n": "3"}, "/n"),
        ({"n": None}, "/n"),
        ({"seed": -1}, "/seed"),
        ({"seed": 2**53}, "/seed"),
        ({"seed": "1"}, "/seed"),
        ({"temperature": -0.1}, "/temperature"),
        ({"temperature": 1e9}, "/temperature"),
        ({"temperature": "1"}, "/temperature"),
        ({"sharpness": 0.99}, "/sharpness"),
        ({"sharpness": 8.01}, "/sharpness"),
        ({"sharpness": "2"}, "/sharpness"),
        ({"prior": "uniform"}, "/prior"),
        ({"label": -1}, "/label"),
        ({"label": True}, "/label"),
        ({"label": 1.5}, "/label"),
        ({"label": "x" * 256}, "/label"),
        ({"count": 3}, "/count"),
        ({"model": 7}, "/model"),
    ],
)
def test_a_bad_field_is_named(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/sample", json=body)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("text", ['{"temperature": NaN}', '{"temperature": Infinity}', '{"temperature": 1e999}'])
def test_temperatures_that_are_not_finite_are_refused(client: TestClient, text: str) -> None:
    answer = client.post("/sample", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/temperature"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"model": "mnist-mlp@1", "prior": "aggregate"}, "mnist-mlp@1 has no aggregate prior."),
        ({"model": "mnist-mlp@1", "label": 7}, "mnist-mlp@1 has no aggregate prior for label 7."),
        ({"label": 10}, "mnist-mlp@2 has no aggregate prior for label 10."),
        ({"label": 7, "prior": "normal"}, "mnist-mlp@2 has no normal prior for label 7."),
        ({"label": "10"}, "mnist-mlp@2 has no aggregate prior for label 10."),
        ({"label": "seven"}, "mnist-mlp@2 has no label 'seven'; its labels have no names."),
    ],
)
def test_a_prior_or_a_label_that_the_model_does_not_have_is_404(
    client: TestClient, body: dict[str, Any], reason: str
) -> None:
    answer = client.post("/sample", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == reason


def test_a_label_can_be_asked_for_by_its_name(start: Callable[..., TestClient], tmp_path: Path) -> None:
    """Labels 1 and 4, whose names are numbers of other labels or words; a name counts before a number."""
    seal(write_bundle(tmp_path, prior=True), label_names=["none", "4", "two", "three", "cats"])
    client = start(models_dir=tmp_path)
    (model,) = client.get("/models").json()["models"]
    assert (model["labels"], model["label_names"]) == ([1, 4], ["4", "cats"])
    one, four = (client.post("/sample", json={"label": label, "seed": 1}).json()["z"] for label in (1, 4))
    for label, z in (("4", one), ("cats", four), ("1", one)):
        assert client.post("/sample", json={"label": label, "seed": 1}).json()["z"] == z
    answer = client.post("/sample", json={"label": "dogs"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "tiny@1 has no label 'dogs'; it has 4, cats.")


def test_a_bundle_without_a_prior_samples_from_the_normal_prior(client: TestClient) -> None:
    body = client.post("/sample", json={"model": "mnist-mlp@1", "n": 2, "seed": 5}).json()
    assert body["prior"] == "normal"
    np.testing.assert_array_equal(np.array(body["z"], np.float32), noise((2, 20), 5))


def test_samples_of_a_label_are_near_images_of_that_label(client: TestClient) -> None:
    """Near: the mean of the label's latents is the nearest one. That holds for three of four test images themselves."""
    known = client.post("/encode", content=npy(digits()), headers={"content-type": "application/x-npy"}).json()["mu"]
    means = np.stack([np.array(known)[labels() == label].mean(axis=0) for label in range(10)])
    hits = []
    for label in range(10):
        z = client.post("/sample", json={"label": label, "n": 100, "seed": 1}).json()["z"]
        hits.append((((np.array(z)[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == label).mean())
    assert np.mean(hits) > 0.7
    assert min(hits) > 0.4


def test_too_many_samples_are_413(start: Callable[..., TestClient]) -> None:
    client = start(max_batch=4)
    assert client.post("/sample", json={"n": 4}).status_code == 200
    answer = client.post("/sample", json={"n": 5})
    assert answer.status_code == 413
    assert answer.json()["errors"] == [{"pointer": "/n", "detail": "5 items in one request; at most 4 are allowed."}]


def test_another_model_is_chosen_by_name_or_version(start: Callable[..., TestClient]) -> None:
    client = start()
    assert client.post("/sample", json={}).json()["model"] == "tiny@2"
    assert client.post("/sample", json={"model": "tiny@1"}).json()["model"] == "tiny@1"
    colour = client.post("/sample", json={"model": "colour", "n": 1}).json()
    assert decoded(colour["images"][0]).shape == (6, 4, 3)
    assert client.post("/sample", json={"model": "tiny@9"}).status_code == 404
