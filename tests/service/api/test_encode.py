from __future__ import annotations

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, digits, encoded
from harness.paths import MODELS
from service.api.answer_schemas import EncodeAnswer
from service.inference.autoencoder import noise
from service.inference.bundle import read_bundle
from service.inference.engine import Engine

IMAGES = digits()[:5]
JSON_BODY = {"images": [base64_png(image) for image in IMAGES]}


@pytest.fixture(scope="module")
def posterior() -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar of IMAGES, from the engine itself."""
    engine = Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1)
    return engine.encode(IMAGES)


def test_json_holds_exactly_the_numbers_of_the_engine(
    client: TestClient, posterior: tuple[np.ndarray, np.ndarray]
) -> None:
    answer = client.post("/encode", json=JSON_BODY)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["model", "mu", "logvar"]
    assert body["model"] == "mnist-mlp@2"
    for name, expected in zip(("mu", "logvar"), posterior, strict=True):
        assert np.array(body[name], np.float32).tobytes() == expected.tobytes()
    EncodeAnswer.model_validate(body)


def test_every_media_type_gives_the_same_answer_for_the_same_digit(client: TestClient) -> None:
    picture = encoded(IMAGES[0])
    stream = io.BytesIO()
    np.save(stream, IMAGES[:1])
    answers = [
        client.post("/encode", json={"images": [base64_png(IMAGES[0])]}),
        client.post("/encode", json={"images": ["data:image/png;base64," + base64_png(IMAGES[0])]}),
        client.post("/encode", files=[("images", ("digit.png", picture, "image/png"))]),
        client.post("/encode", content=picture, headers={"content-type": "image/png"}),
        client.post("/encode", content=stream.getvalue(), headers={"content-type": "application/x-npy"}),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_a_batch_gives_the_same_as_its_images_one_by_one(client: TestClient) -> None:
    together = client.post("/encode", json=JSON_BODY).json()
    for index, image in enumerate(JSON_BODY["images"]):
        alone = client.post("/encode", json={"images": [image]}).json()
        assert alone["mu"][0] == together["mu"][index]
        assert alone["logvar"][0] == together["logvar"][index]


def test_sample_adds_a_draw_and_its_seed(client: TestClient, posterior: tuple[np.ndarray, np.ndarray]) -> None:
    body = client.post("/encode", json={**JSON_BODY, "sample": True, "seed": 7}).json()
    mu, logvar = posterior
    assert body["seed"] == 7
    np.testing.assert_allclose(body["z"], mu + np.exp(logvar / 2) * noise(mu.shape, 7), atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_without_one_each_draw_is_new(client: TestClient) -> None:
    seeded = {client.post("/encode", json={**JSON_BODY, "sample": True, "seed": 1}).content for _ in range(3)}
    assert len(seeded) == 1
    unseeded = [client.post("/encode", json={**JSON_BODY, "sample": True}).json() for _ in range(3)]
    assert len({body["seed"] for body in unseeded}) == 3
    again = client.post("/encode", json={**JSON_BODY, "sample": True, "seed": unseeded[0]["seed"]}).json()
    assert again == unseeded[0]


def test_npy_is_mu_and_logvar_stacked(client: TestClient, posterior: tuple[np.ndarray, np.ndarray]) -> None:
    answer = client.post("/encode", json=JSON_BODY, headers={"accept": "application/x-npy"})
    assert answer.headers["content-type"] == "application/x-npy"
    assert answer.headers["x-model"] == "mnist-mlp@2"
    mu, logvar = np.load(io.BytesIO(answer.content))
    assert mu.tobytes() == posterior[0].tobytes()
    assert logvar.tobytes() == posterior[1].tobytes()


def test_npy_holds_z_too_with_sample(client: TestClient) -> None:
    body = {**JSON_BODY, "sample": True, "seed": 7}
    answer = client.post("/encode", json=body, headers={"accept": "application/x-npy"})
    assert answer.headers["x-seed"] == "7"
    assert np.load(io.BytesIO(answer.content)).shape == (3, 5, 20)


def test_raw_arrays_have_headers_with_their_shape_and_type(
    client: TestClient, posterior: tuple[np.ndarray, np.ndarray]
) -> None:
    answer = client.post("/encode", json=JSON_BODY, headers={"accept": "application/octet-stream"})
    assert answer.headers["x-array-dtype"] == "float32"
    assert answer.headers["x-array-shape"] == "2,5,20"
    assert answer.content == np.stack(posterior).tobytes()


def test_latents_cannot_be_sent_as_a_picture(client: TestClient) -> None:
    assert client.post("/encode", json=JSON_BODY, headers={"accept": "image/png"}).status_code == 406


def test_server_timing_has_the_times_of_queue_and_compute(client: TestClient) -> None:
    timing = client.post("/encode", json=JSON_BODY).headers["server-timing"]
    queue, compute = (float(part.split("dur=")[1]) for part in timing.split(", "))
    assert queue >= 0
    assert compute > 0
