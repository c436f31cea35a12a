"""POST /score: what it answers in every form, and that it refuses what it cannot do."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from harness.digits import base64_png, digits, encoded
from harness.paths import DIGIT, ROOT
from service.api.answer_schemas import ScoreAnswer
from service.images.codec import npy_bytes
from tests.bundles import write_bundle

IMAGES = digits()[:5]
BODY = {"images": [base64_png(image) for image in IMAGES]}
FIELDS = ["distortion", "rate", "elbo", "typicality"]


def score(client: TestClient, images: npt.NDArray[np.uint8], **options: Any) -> dict[str, Any]:
    headers = {"content-type": "application/x-npy"}
    answer = client.post("/score", content=npy_bytes(images), headers=headers, params=options)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_json_holds_the_terms_and_the_typicality_of_each_image(client: TestClient) -> None:
    body = client.post("/score", json=BODY).json()
    assert list(body) == ["model", *FIELDS]
    ScoreAnswer.model_validate(body)
    distortion, rate, elbo, typicality = (np.array(body[name], np.float32) for name in FIELDS)
    np.testing.assert_allclose(elbo, -(distortion + rate), rtol=1e-6)
    assert ((typicality > 0) & (typicality <= 1)).all()


def test_without_draws_the_distortion_is_that_of_the_image_decoded_from_mu(client: TestClient) -> None:
    """Squared error over pixels in [-1, 1]: four times 784 times the mse of `/reconstruct`, but for its rounding."""
    mse = np.array(client.post("/reconstruct", json=BODY).json()["mse"])
    np.testing.assert_allclose(client.post("/score", json=BODY).json()["distortion"], 4 * 784 * mse, rtol=2e-2)


def test_the_rate_is_that_of_the_posterior(client: TestClient) -> None:
    posterior = client.post("/encode", json=BODY).json()
    mu, logvar = np.array(posterior["mu"]), np.array(posterior["logvar"])
    expected = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)
    np.testing.assert_allclose(client.post("/score", json=BODY).json()["rate"], expected, rtol=1e-5)


def test_with_k_there_is_a_log_likelihood_which_its_seed_gives_again(client: TestClient) -> None:
    drawn = client.post("/score", json={**BODY, "k": 20}).json()
    assert list(drawn) == ["model", *FIELDS, "log_likelihood", "k", "seed"]
    ScoreAnswer.model_validate(drawn)
    assert drawn["k"] == 20
    assert client.post("/score", json={**BODY, "k": 20, "seed": drawn["seed"]}).json() == drawn
    seeded = client.post("/score", json={**BODY, "k": 20, "seed": 1}).json()
    assert seeded["log_likelihood"] != drawn["log_likelihood"]
    plain = client.post("/score", json=BODY).json()
    assert drawn["typicality"] == plain["typicality"]
    # True on average. A seed of the test's own makes it true of these draws, too.
    assert np.mean(seeded["distortion"]) > np.mean(plain["distortion"])
    assert np.mean(seeded["log_likelihood"]) > np.mean(seeded["elbo"])


def test_every_form_of_a_request_gives_the_same_score(client: TestClient) -> None:
    options = {"k": 3, "seed": 4}
    wanted = client.post("/score", json={"images": BODY["images"][:1], **options}).json()
    picture = encoded(IMAGES[0])
    assert client.post("/score", files=[("images", picture)], data=options).json() == wanted
    headers = {"content-type": "image/png"}
    assert client.post("/score", content=picture, headers=headers, params=options).json() == wanted
    assert score(client, IMAGES[:1], **options) == wanted


@pytest.mark.parametrize("k", [None, 2])
def test_arrays_have_a_row_for_each_field(client: TestClient, k: int | None) -> None:
    options = {} if k is None else {"k": k, "seed": 9}
    body = client.post("/score", json={**BODY, **options}).json()
    answer = client.post("/score", json={**BODY, **options}, headers={"accept": "application/x-npy"})
    assert answer.headers["x-model"] == "mnist-mlp@2"
    assert answer.headers.get("x-seed") == (None if k is None else "9")
    array = np.load(io.BytesIO(answer.content))
    assert array.dtype == np.float32
    names = FIELDS if k is None else [*FIELDS, "log_likelihood"]
    np.testing.assert_array_equal(array, np.array([body[name] for name in names], np.float32))
    assert client.post("/score", json=BODY, headers={"accept": "image/png"}).status_code == 406


@pytest.mark.parametrize("model", ["mnist-mlp", "mnist-resmlp", "mnist-sharp"])
def test_a_score_does_not_depend_on_the_rest_of_the_batch(client: TestClient, model: str) -> None:
    images = digits()[:200]
    together = score(client, images, model=model)
    for row in (0, 1, 31, 32, 33, 198, 199):
        alone = score(client, images[row : row + 1], model=model)
        assert {name: alone[name][0] for name in FIELDS} == {name: together[name][row] for name in FIELDS}


def test_draws_do_not_depend_on_requests_at_the_same_time(client: TestClient) -> None:
    images = digits()
    requests = [
        (images[number : number + 1 + number % 3], {"k": 1 + 7 * number, "seed": number}) for number in range(12)
    ]
    alone = [score(client, images, **options) for images, options in requests]
    with ThreadPoolExecutor(12) as pool:
        at_once = list(pool.map(lambda request: score(client, request[0], **request[1]), requests * 2))
    assert at_once == alone * 2


def test_the_typicality_of_digits_is_uniform_and_other_pictures_have_none(client: TestClient) -> None:
    """200 test images in five bins: within four standard deviations of 40 in each."""
    typicality = score(client, digits()[:200])["typicality"]
    counts, _ = np.histogram(typicality, bins=5, range=(0, 1))
    assert (np.abs(counts - 40) < 4 * np.sqrt(40 * 0.8)).all()
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (20, 28, 28), np.uint8)
    blank = np.stack([np.full((28, 28), level, np.uint8) for level in (0, 128, 255)])
    others = np.concatenate([blank, noise, 255 - IMAGES])
    assert max(score(client, others)["typicality"]) < 1e-3


def test_a_bundle_without_statistics_is_404_and_says_why(client: TestClient) -> None:
    answer = client.post("/score", json={**BODY, "model": "mnist-mlp@1"})
    assert answer.status_code == 404
    assert answer.json()["detail"] == ("mnist-mlp@1 cannot score images: its bundle has no statistics of a test set.")


def test_more_draws_than_a_batch_may_have_are_413(client: TestClient) -> None:
    answer = client.post("/score", json={**BODY, "k": 205})
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["pointer"] == "/k"
    assert client.post("/score", json={**BODY, "k": 204}).status_code == 200


def test_draws_that_would_not_fit_into_memory_are_413_before_the_work(
    start: Callable[..., TestClient], tmp_path: Path
) -> None:
    write_bundle(tmp_path, image_shape=(200, 200), objective="squared-error", statistics=True)
    client = start(tmp_path, memory_bytes=50_000_000)
    image = np.zeros((1, 200, 200), np.uint8)
    assert len(score(client, image)["typicality"]) == 1
    headers = {"content-type": "application/x-npy"}
    answer = client.post("/score", content=npy_bytes(image), headers=headers, params={"k": 1000})
    assert answer.status_code == 413
    assert "VAE_MEMORY_BYTES" in answer.json()["detail"]


@pytest.mark.parametrize("options", [{"k": 0}, {"k": "many"}, {"sample": True}, {"k": 1, "seed": -1}])
def test_options_that_are_wrong_or_of_another_verb_are_422(client: TestClient, options: dict[str, Any]) -> None:
    assert client.post("/score", json={**BODY, **options}).status_code == 422
    assert client.post("/score", files=[("images", encoded(IMAGES[0]))], data=options).status_code == 422


def test_encode_takes_no_k(client: TestClient) -> None:
    assert client.post("/encode", json={**BODY, "k": 1}).status_code == 422


def test_models_list_their_latents_by_use(client: TestClient) -> None:
    latents = client.get("/models/mnist-mlp").json()["latents"]
    assert sorted(latent["index"] for latent in latents) == list(range(20))
    rates = [latent["rate"] for latent in latents]
    assert rates == sorted(rates, reverse=True)
    assert client.get("/models/mnist-mlp@1").json()["latents"] == []


def test_the_examples_of_the_document_are_what_it_answers(client: TestClient) -> None:
    text = (ROOT / "docs" / "score.md").read_text()
    printed = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    upright = Image.open(DIGIT)
    for picture, wanted in zip((upright, upright.rotate(90)), printed, strict=True):
        headers = {"content-type": "image/png"}
        answer = client.post("/score", content=encoded(picture), headers=headers).json()
        assert answer["model"] == wanted["model"]
        for name in FIELDS:
            np.testing.assert_allclose(answer[name], wanted[name], rtol=1e-3)
