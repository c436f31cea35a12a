from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, decoded, digits, encoded
from service.api.answer_schemas import InterpolateAnswer
from service.images.codec import npy_bytes

PICTURES = [base64_png(image) for image in digits()[:3]]
Z = np.linspace(-2, 2, 60).reshape(3, 20).tolist()


def png(client: TestClient, body: dict[str, Any]) -> Any:
    return decoded(client.post("/interpolate", json=body, headers={"accept": "image/png"}).content)


def test_pictures_give_the_images_and_latents_on_the_way(client: TestClient) -> None:
    body = client.post("/interpolate", json={"images": PICTURES}).json()
    assert list(body) == ["model", "images", "mu", "z"]
    InterpolateAnswer.model_validate(body)
    assert np.shape(body["mu"]) == (3, 20)
    assert np.shape(body["z"]) == (15, 20)
    assert [decoded(image).shape for image in body["images"]] == [(28, 28)] * 15


def test_the_given_pictures_are_their_reconstructions(client: TestClient) -> None:
    walked = client.post("/interpolate", json={"images": PICTURES, "path": "spherical"}).json()
    reconstructed = client.post("/reconstruct", json={"images": PICTURES}).json()
    assert walked["mu"] == walked["z"][::7] == reconstructed["mu"]
    assert walked["images"][::7] == reconstructed["images"]


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_latents_give_the_same_as_decode(client: TestClient, path: str) -> None:
    walked = client.post("/interpolate", json={"z": Z, "steps": 3, "path": path}).json()
    assert list(walked) == ["model", "images", "z"]
    np.testing.assert_array_equal(np.array(walked["z"][::2], np.float32), np.array(Z, np.float32))
    assert client.post("/decode", json={"z": walked["z"]}).json()["images"] == walked["images"]


def test_two_steps_add_nothing(client: TestClient) -> None:
    walked = client.post("/interpolate", json={"z": Z, "steps": 2}).json()
    assert len(walked["images"]) == 3


def test_linear_is_the_default_path(client: TestClient) -> None:
    given, linear, spherical = (
        client.post("/interpolate", json={"z": Z} | path).json()["z"]
        for path in ({}, {"path": "linear"}, {"path": "spherical"})
    )
    assert given == linear
    assert given != spherical


def test_opposite_and_zero_latents_have_a_way_too(client: TestClient) -> None:
    z = [[1.0] * 20, [-1.0] * 20, [0.0] * 20, [1.0] * 20]
    answers = {client.post("/interpolate", json={"z": z, "path": "spherical"}).content for _ in range(3)}
    assert len(answers) == 1
    assert b"null" not in answers.pop()


def test_as_one_picture_it_is_a_strip(client: TestClient) -> None:
    body = {"images": PICTURES, "steps": 4}
    strip = png(client, body)
    images = client.post("/interpolate", json=body).json()["images"]
    np.testing.assert_array_equal(strip, np.hstack([decoded(image) for image in images]))


def test_the_array_has_the_images_alone(client: TestClient) -> None:
    answer = client.post("/interpolate", json={"z": Z, "steps": 4}, headers={"accept": "application/x-npy"})
    array = np.load(io.BytesIO(answer.content))
    assert (array.dtype, array.shape) == (np.uint8, (7, 28, 28))
    assert answer.headers["x-model"] == "mnist-mlp@2"


def test_every_form_of_request_gets_the_same_answer(client: TestClient) -> None:
    expected = client.post("/interpolate", json={"images": PICTURES, "steps": 3, "path": "spherical"}).content
    files = [("images", encoded(image)) for image in digits()[:3]]
    query = "/interpolate?steps=3&path=spherical"
    npy = {"content-type": "application/x-npy"}
    for answer in (
        client.post(query, json={"images": PICTURES}),
        client.post("/interpolate?steps=3", json={"images": PICTURES, "path": "spherical"}),
        client.post(query, files=files),
        client.post("/interpolate", files=files, data={"steps": "3", "path": "spherical"}),
        client.post(query, content=npy_bytes(digits()[:3]), headers=npy),
    ):
        assert (answer.status_code, answer.content) == (200, expected)


def test_a_large_request_gets_the_same_answer_as_its_parts(client: TestClient) -> None:
    """It is read, walked and written in threads."""
    pictures = [base64_png(image) for image in digits()[:128]]
    whole = client.post("/interpolate", json={"images": pictures, "path": "spherical"}).json()
    for first in (0, 50, 126):
        part = client.post("/interpolate", json={"images": pictures[first : first + 2], "path": "spherical"}).json()
        assert part["z"] == whole["z"][7 * first : 7 * first + 8]
        assert part["images"] == whole["images"][7 * first : 7 * first + 8]


def test_pictures_are_prepared_as_asked(client: TestClient) -> None:
    large = [base64_png(np.kron(image, np.ones((3, 3), np.uint8))) for image in digits()[:2]]
    for preprocess in ("resize", "digit"):
        body = {"images": large, "preprocess": preprocess}
        walked, encoded_ = (client.post(route, json=body).json() for route in ("/interpolate", "/encode"))
        assert walked["mu"] == encoded_["mu"]
    assert client.post("/interpolate", json={"images": large, "preprocess": "none"}).status_code == 422


def test_one_raw_picture_is_no_walk(client: TestClient) -> None:
    answer = client.post("/interpolate", content=encoded(digits()[0]), headers={"content-type": "image/png"})
    assert answer.status_code == 415
    assert "application/json, multipart/form-data or application/x-npy" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({}, ["/images"]),
        ({"images": PICTURES[:1]}, ["/images"]),
        ({"images": []}, ["/images"]),
        ({"images": None, "z": Z}, ["/images"]),
        ({"images": [PICTURES[0], "%"]}, ["/images/1"]),
        ({"z": Z[:1]}, ["/z"]),
        ({"z": []}, ["/z"]),
        ({"images": PICTURES, "z": Z}, ["/images", "/z"]),
        ({"z": [Z[0], Z[1][1:], []]}, ["/z/1", "/z/2"]),
        ({"z": [Z[0], [1e300] * 20]}, ["/z/1"]),
        ({"z": [Z[0], [2e6] * 20]}, ["/z/1"]),
        ({"z": [Z[0], ["0"] * 20]}, ["/z/1/0"]),
        ({"z": Z, "steps": 1}, ["/steps"]),
        ({"z": Z, "steps": 2.5}, ["/steps"]),
        ({"z": Z, "steps": "8"}, ["/steps"]),
        ({"z": Z, "path": "cubic"}, ["/path"]),
        ({"z": Z, "sample": True}, ["/sample"]),
        ({"z": Z, "seed": 1}, ["/seed"]),
        ({"z": Z, "dims": [1]}, ["/dims"]),
    ],
)
def test_a_bad_field_is_named(client: TestClient, change: dict[str, Any], pointers: list[str]) -> None:
    answer = client.post("/interpolate", json=change)
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == pointers
    assert answer.headers["server-timing"] == "queue;dur=0.000, compute;dur=0.000"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(client: TestClient, number: str) -> None:
    text = f'{{"z": [[{", ".join(["0"] * 20)}], [{number}, {", ".join(["0"] * 19)}]]}}'
    answer = client.post("/interpolate", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/z/1/0"


class TestTooMany:
    """The images that are made count, not only those that are sent; and they count before any work."""

    @pytest.mark.parametrize("steps", [6, 2**40, 10**400])
    def test_steps(self, start: Callable[..., TestClient], steps: int) -> None:
        client = start(max_batch=9)
        body: dict[str, Any] = {"z": [[0.0] * 3] * 3}
        assert len(client.post("/interpolate", json=body | {"steps": 5}).json()["images"]) == 9
        answer = client.post("/interpolate", json=body | {"steps": steps})
        assert answer.status_code == 413
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/steps"]
        assert "at most 9" in answer.json()["detail"]

    @pytest.mark.parametrize("field", ["images", "z"])
    def test_points(self, start: Callable[..., TestClient], field: str) -> None:
        points = {"images": PICTURES[:1] * 10, "z": [[0.0] * 3] * 10}[field]
        answer = start(max_batch=9).post("/interpolate", json={field: points, "steps": 2})
        assert answer.status_code == 413
        assert [item["pointer"] for item in answer.json()["errors"]] == [f"/{field}"]

    def test_an_array_is_counted_before_its_images_are_read(self, start: Callable[..., TestClient]) -> None:
        array = np.zeros((3, 50, 50), np.uint8)
        headers = {"content-type": "application/x-npy"}
        answer = start(max_batch=9, max_pixels=1).post("/interpolate", content=npy_bytes(array), headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (413, "/steps")
