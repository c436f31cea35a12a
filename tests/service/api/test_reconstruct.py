from __future__ import annotations

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, decoded, digits, encoded
from service.api.answer_schemas import ReconstructAnswer
from service.images.codec import grid

IMAGES = digits()[:5]
BODY = {"images": [base64_png(image) for image in IMAGES]}


def test_json_holds_pictures_latents_and_errors(client: TestClient) -> None:
    body = client.post("/reconstruct", json=BODY).json()
    assert list(body) == ["model", "images", "mu", "logvar", "mse"]
    ReconstructAnswer.model_validate(body)
    pictures = np.stack([decoded(image) for image in body["images"]])
    assert pictures.shape == IMAGES.shape
    np.testing.assert_allclose(body["mse"], ((pictures / 255.0 - IMAGES / 255.0) ** 2).mean(axis=(1, 2)), rtol=1e-5)


def test_the_posterior_is_that_of_encode(client: TestClient) -> None:
    reconstructed, encoded_ = (client.post(route, json=BODY).json() for route in ("/reconstruct", "/encode"))
    assert reconstructed["mu"] == encoded_["mu"]
    assert reconstructed["logvar"] == encoded_["logvar"]


def test_reconstructions_are_nearest_to_their_own_digits(client: TestClient) -> None:
    """More than 95 % of 200 reconstructions are nearer to their own digit than to any of the others."""
    originals = digits()[:200]
    stream = io.BytesIO()
    np.save(stream, originals)
    answer = client.post(
        "/reconstruct",
        content=stream.getvalue(),
        headers={"content-type": "application/x-npy", "accept": "application/x-npy"},
    )
    images = np.load(io.BytesIO(answer.content)).reshape(200, -1).astype(float)
    distances = ((images[:, None] - originals.reshape(200, -1)[None]) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == np.arange(200)).mean() > 0.95


def test_one_picture_is_answered_by_one_picture(client: TestClient) -> None:
    answer = client.post(
        "/reconstruct",
        content=encoded(IMAGES[0]),
        headers={"content-type": "image/png", "accept": "image/png"},
    )
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "mnist-mlp@2"
    expected = client.post("/reconstruct", json={"images": BODY["images"][:1]}).json()["images"][0]
    np.testing.assert_array_equal(decoded(answer.content), decoded(expected))


def test_several_pictures_come_as_a_grid(client: TestClient) -> None:
    answer = client.post("/reconstruct", json=BODY, headers={"accept": "image/png"})
    pictures = np.stack([decoded(image) for image in client.post("/reconstruct", json=BODY).json()["images"]])
    np.testing.assert_array_equal(decoded(answer.content), grid(pictures, 0))


def test_raw_bytes_are_the_images(client: TestClient) -> None:
    answer = client.post("/reconstruct", json=BODY, headers={"accept": "application/octet-stream"})
    assert answer.headers["x-array-dtype"] == "uint8"
    assert answer.headers["x-array-shape"] == "5,28,28"
    assert len(answer.content) == 5 * 28 * 28


def test_sample_decodes_a_seeded_draw(client: TestClient) -> None:
    body = client.post("/reconstruct", json={**BODY, "sample": True, "seed": 3}).json()
    assert body["seed"] == 3
    decoded_ = client.post("/decode", json={"z": body["z"]}).json()
    assert decoded_["images"] == body["images"]
    assert client.post("/reconstruct", json=BODY).json()["images"] != body["images"]


@pytest.mark.parametrize("row", range(5))
def test_an_image_of_a_batch_gives_the_same_bits_as_alone(client: TestClient, row: int) -> None:
    together = client.post("/reconstruct", json=BODY).json()
    alone = client.post("/reconstruct", json={"images": [BODY["images"][row]]}).json()
    assert {name: alone[name][0] for name in ("images", "mu", "logvar", "mse")} == {
        name: together[name][row] for name in ("images", "mu", "logvar", "mse")
    }
