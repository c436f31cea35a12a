from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, decoded, digits
from service.api.answer_schemas import DecodeAnswer

Z = np.linspace(-2, 2, 60).reshape(3, 20).tolist()


def test_json_is_one_picture_for_each_latent(client: TestClient) -> None:
    body = client.post("/decode", json={"z": Z}).json()
    assert list(body) == ["model", "images"]
    DecodeAnswer.model_validate(body)
    assert [decoded(image).shape for image in body["images"]] == [(28, 28)] * 3


def test_decoding_mu_gives_the_reconstruction(client: TestClient) -> None:
    request = {"images": [base64_png(image) for image in digits()[:4]]}
    mu = client.post("/encode", json=request).json()["mu"]
    assert (
        client.post("/decode", json={"z": mu}).json()["images"]
        == client.post("/reconstruct", json=request).json()["images"]
    )


def test_png_and_npy_are_the_same_images(client: TestClient) -> None:
    grid = decoded(client.post("/decode", json={"z": Z}, headers={"accept": "image/png"}).content)
    array = np.load(io.BytesIO(client.post("/decode", json={"z": Z}, headers={"accept": "application/x-npy"}).content))
    np.testing.assert_array_equal(grid[:28, 28:], array[1])
    np.testing.assert_array_equal(grid[28:, :28], array[2])


@pytest.mark.parametrize(
    ("z", "pointers"),
    [
        ([], ["/z"]),
        ("zero", ["/z"]),
        ([[0.0] * 19, [0.0] * 20, [0.0] * 21, []], ["/z/0", "/z/2", "/z/3"]),
        ([0.0] * 20, ["/z/0"]),
        ([["0"] * 20], ["/z/0/0"]),
        ([[0.0] * 20, [1e300] * 20], ["/z/1"]),
        ([[None] + [0.0] * 19], ["/z/0/0"]),
    ],
)
def test_bad_latents_are_named(client: TestClient, z: Any, pointers: list[str]) -> None:
    answer = client.post("/decode", json={"z": z})
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == pointers


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(client: TestClient, number: str) -> None:
    text = f'{{"z": [[{number}, {", ".join(["0"] * 19)}]]}}'
    answer = client.post("/decode", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/z/0/0"


def test_more_latents_than_the_limit_are_too_many(start: Callable[..., TestClient]) -> None:
    answer = start(max_batch=2).post("/decode", json={"z": [[0.0] * 3] * 3})
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["pointer"] == "/z"


def npy(array: Any, dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array, dtype))
    return stream.getvalue()


class TestArrays:
    NPY: ClassVar = {"content-type": "application/x-npy"}

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_an_array_is_decoded_as_its_numbers_in_json_are(self, client: TestClient, order: Any) -> None:
        array = np.array(Z, np.float32, order=order)
        answer = client.post("/decode", content=npy(array), headers=self.NPY)
        assert answer.json() == client.post("/decode", json={"z": array.tolist()}).json()

    def test_the_query_names_the_model(self, start: Callable[..., TestClient]) -> None:
        client, array = start(), np.ones((2, 3), np.float32)
        answer = client.post("/decode?model=tiny@1", content=npy(array), headers=self.NPY)
        assert answer.json() == client.post("/decode", json={"z": array.tolist(), "model": "tiny@1"}).json()
        assert answer.json() == client.post("/decode?model=tiny@1", json={"z": array.tolist()}).json()
        assert client.post("/decode", content=npy(array), headers=self.NPY).json()["model"] == "tiny@2"

    def test_a_query_that_contradicts_the_body_is_refused(self, start: Callable[..., TestClient]) -> None:
        answer = start().post("/decode?model=tiny@1", json={"z": [[0.0] * 3], "model": "tiny@2"})
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/model"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"nonsense",
            npy(Z)[:-1],
            npy(Z) + b"x",
            npy(Z, "<f8"),
            npy(Z, ">f4"),
            npy(Z, "<i4"),
            npy(Z[0]),
            npy([Z]),
            npy(np.zeros((0, 20))),
            npy(np.zeros((2, 19))),
            npy(np.zeros((2, 0))),
        ],
    )
    def test_another_array_is_refused(self, client: TestClient, body: bytes) -> None:
        answer = client.post("/decode", content=body, headers=self.NPY)
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/z"]

    @pytest.mark.parametrize("number", [np.nan, np.inf, 2e6])
    def test_each_row_that_cannot_be_decoded_is_named(self, client: TestClient, number: float) -> None:
        array = np.array(Z)
        array[1, 3] = number
        answer = client.post("/decode", content=npy(array), headers=self.NPY)
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/z/1"]

    def test_more_rows_than_the_limit_are_too_many(self, start: Callable[..., TestClient]) -> None:
        answer = start(max_batch=2).post("/decode", content=npy(np.zeros((3, 3))), headers=self.NPY)
        assert answer.status_code == 413
        assert answer.json()["errors"][0]["pointer"] == "/z"

    def test_an_unknown_option_is_refused(self, client: TestClient) -> None:
        answer = client.post("/decode?seed=1", content=npy(Z), headers=self.NPY)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/seed")
