from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, decoded, digits, encoded
from service.api.answer_schemas import TraverseAnswer
from service.images.codec import npy_bytes
from tests.bundles import write_bundle

PICTURE = base64_png(digits()[0])
ZERO = [0.0] * 20


def test_a_picture_gives_a_row_for_each_latent(client: TestClient) -> None:
    body = client.post("/traverse", json={"images": [PICTURE]}).json()
    assert list(body) == ["model", "images", "dims", "values", "mu", "z"]
    TraverseAnswer.model_validate(body)
    assert len(set(body["dims"])) == 5
    assert body["values"] == [-3, -2, -1, 0, 1, 2, 3]
    assert body["mu"] == client.post("/encode", json={"images": [PICTURE]}).json()["mu"]
    assert np.shape(body["z"]) == (35, 20)
    for row, dim in enumerate(body["dims"]):
        for column, value in enumerate(body["values"]):
            expected = list(body["mu"][0])
            expected[dim] = value
            assert body["z"][7 * row + column] == expected


def test_the_images_are_those_of_decode(client: TestClient) -> None:
    body = client.post("/traverse", json={"z": [ZERO], "dims": [4, 2], "range": [-1, 2], "steps": 4}).json()
    assert list(body) == ["model", "images", "dims", "values", "z"]
    assert (body["dims"], body["values"]) == ([4, 2], [-1, 0, 1, 2])
    assert client.post("/decode", json={"z": body["z"]}).json()["images"] == body["images"]


def test_the_busiest_latents_are_the_default(client: TestClient) -> None:
    listed = client.get("/models/mnist-mlp").json()["latents"]
    assert [latent["rate"] for latent in listed] == sorted((latent["rate"] for latent in listed), reverse=True)
    assert client.post("/traverse", json={"z": [ZERO]}).json()["dims"] == [latent["index"] for latent in listed[:5]]


def test_as_one_picture_it_is_a_grid_with_a_row_for_each_latent(client: TestClient) -> None:
    body = {"images": [PICTURE], "dims": [3, 0], "steps": 5}
    answer = client.post("/traverse", json=body, headers={"accept": "image/png"})
    images = [decoded(image) for image in client.post("/traverse", json=body).json()["images"]]
    np.testing.assert_array_equal(decoded(answer.content), np.vstack([np.hstack(images[:5]), np.hstack(images[5:])]))
    assert answer.headers["x-dims"] == "3,0"


def test_the_array_has_the_images_alone(client: TestClient) -> None:
    answer = client.post("/traverse", json={"z": [ZERO]}, headers={"accept": "application/x-npy"})
    array = np.load(io.BytesIO(answer.content))
    assert (array.dtype, array.shape) == (np.uint8, (35, 28, 28))
    assert len(answer.headers["x-dims"].split(",")) == 5


def test_every_form_of_request_gets_the_same_answer(client: TestClient) -> None:
    options = {"dims": [3, 4], "range": [-1.5, 2], "steps": 3}
    expected = client.post("/traverse", json={"images": [PICTURE]} | options).content
    query = "/traverse?dims=3,4&range=-1.5,2&steps=3"
    data = {"dims": "3,4", "range": "-1.5,2.0", "steps": "3"}
    picture = encoded(digits()[0])
    for answer in (
        client.post(query, json={"images": [PICTURE]}),
        client.post(query, json={"images": [PICTURE]} | options),
        client.post(query, files=[("images", picture)]),
        client.post("/traverse", files=[("images", picture)], data=data),
        client.post(query, content=picture, headers={"content-type": "image/png"}),
        client.post(query, content=npy_bytes(digits()[:1]), headers={"content-type": "application/x-npy"}),
    ):
        assert (answer.status_code, answer.content) == (200, expected)


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"z": []}, ["/z"]),
        ({"z": [ZERO] * 2}, ["/z"]),
        ({"images": [PICTURE]}, ["/images", "/z"]),
        ({"z": [ZERO[1:]]}, ["/z/0"]),
        ({"z": [[1e7] * 20]}, ["/z/0"]),
        ({"dims": []}, ["/dims"]),
        ({"dims": None}, ["/dims"]),
        ({"dims": "3"}, ["/dims"]),
        ({"dims": [1.5]}, ["/dims/0"]),
        ({"dims": [True]}, ["/dims/0"]),
        ({"dims": [20, 3, -1, 3]}, ["/dims/0", "/dims/2", "/dims/3"]),
        ({"range": [1]}, ["/range"]),
        ({"range": [1, 2, 3]}, ["/range"]),
        ({"range": "1,2"}, ["/range"]),
        ({"range": [1, 1]}, ["/range"]),
        ({"range": [2, 1]}, ["/range"]),
        ({"range": [0, 1e7]}, ["/range/1"]),
        ({"steps": 1}, ["/steps"]),
        ({"path": "linear"}, ["/path"]),
        ({"seed": 1}, ["/seed"]),
    ],
)
def test_a_bad_field_is_named(client: TestClient, change: dict[str, Any], pointers: list[str]) -> None:
    answer = client.post("/traverse", json={"z": [ZERO]} | change)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == pointers
    assert answer.headers["server-timing"] == "queue;dur=0.000, compute;dur=0.000"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("dims=", "/dims"),
        ("dims=3,", "/dims"),
        ("dims=3, 4", "/dims"),
        ("dims=three", "/dims"),
        ("dims=1.5", "/dims/0"),
        ("dims=3,99", "/dims/1"),
        ("dims=3&dims=4", "/dims"),
        ("range=1", "/range"),
        ("range=-nan,1", "/range"),
        ("range=0,inf", "/range"),
        ("range=0,1e3", "/range"),
        ("range=2,1", "/range"),
        ("z=1", "/z"),
        ("images=1", "/images"),
    ],
)
def test_a_bad_option_of_the_query_is_named(client: TestClient, query: str, pointer: str) -> None:
    answer = client.post(f"/traverse?{query}", content=encoded(digits()[0]), headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_two_pictures_are_too_many(client: TestClient) -> None:
    for answer in (
        client.post("/traverse", files=[("images", encoded(digits()[0]))] * 2),
        client.post("/traverse", content=npy_bytes(digits()[:2]), headers={"content-type": "application/x-npy"}),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"pointer": "/images", "detail": "Exactly one is needed."}]


@pytest.mark.parametrize("steps", [5, 2**40, 10**400])
def test_more_images_than_the_limit_are_too_many(start: Callable[..., TestClient], steps: int) -> None:
    client = start(max_batch=9)
    body: dict[str, Any] = {"z": [[0.0] * 3], "dims": [0, 2]}
    assert len(client.post("/traverse", json=body | {"steps": 4}).json()["images"]) == 8
    answer = client.post("/traverse", json=body | {"steps": steps})
    assert answer.status_code == 413
    assert [item["pointer"] for item in answer.json()["errors"]] == ["/steps"]


def test_a_bundle_without_figures_has_no_busiest_latents(start: Callable[..., TestClient]) -> None:
    client = start()
    answer = client.post("/traverse", json={"z": [[0.0] * 3]})
    assert answer.status_code == 404
    assert "name them in `dims`" in answer.json()["detail"]
    assert client.post("/traverse", json={"z": [[0.0] * 3], "dims": [1]}).status_code == 200


def test_a_model_with_few_latents_has_no_more_rows_than_these(start: Callable[..., TestClient], tmp_path: Path) -> None:
    write_bundle(tmp_path, prior=True)
    answer = start(tmp_path).post("/traverse", json={"z": [[0.0] * 3]}).json()
    assert sorted(answer["dims"]) == [0, 1, 2]


def test_a_colour_model_gives_a_colour_grid(start: Callable[..., TestClient]) -> None:
    body = {"model": "colour", "z": [[0.0] * 3], "dims": [0, 1], "steps": 3}
    answer = start().post("/traverse", json=body, headers={"accept": "image/png"})
    assert decoded(answer.content).shape == (2 * 6, 3 * 4, 3)
