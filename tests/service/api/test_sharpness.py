"""`sharpness` on every route that draws pictures, and the defaults that a bundle has for samples."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, decoded, digits, encoded
from service.contract import tone_curve
from service.images.codec import npy_bytes
from service.images.tone import sharpened
from tests.bundles import seal, write_bundle
from tests.service.api.open_inference.asking import infer, outputs

S = 1.7
NPY = "application/x-npy"
Z = np.linspace(-2, 2, 40).reshape(2, 20).tolist()
PICTURES = [base64_png(digit) for digit in digits()[:2]]
REQUESTS: dict[str, dict[str, Any]] = {
    "/sample": {"n": 3, "seed": 4},
    "/decode": {"z": Z},
    "/reconstruct": {"images": PICTURES, "sample": True, "seed": 4},
    "/interpolate": {"images": PICTURES, "steps": 3},
    "/traverse": {"z": Z[:1], "dims": [3], "steps": 3},
}
each_route = pytest.mark.parametrize("route", REQUESTS)


def post(client: TestClient, route: str, **body: Any) -> dict[str, Any]:
    answer = client.post(route, json=REQUESTS[route] | body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def images(document: dict[str, Any]) -> npt.NDArray[np.uint8]:
    return np.stack([decoded(image) for image in document["images"]])


def array(content: bytes) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = np.load(io.BytesIO(content))
    return found


@each_route
def test_the_pictures_are_sharper_and_nothing_else_is_another(client: TestClient, route: str) -> None:
    bare, sharp = post(client, route), post(client, route, sharpness=S)
    np.testing.assert_array_equal(images(sharp), sharpened(images(bare), S))
    assert (images(sharp) != images(bare)).any()
    for document in (bare, sharp):
        document.pop("images")
        document.pop("sharpness", None)
    assert bare == sharp


@each_route
def test_one_is_the_mean_image_as_the_decoder_gives_it(client: TestClient, route: str) -> None:
    document = post(client, route, sharpness=1)
    if route != "/traverse" and "z" in document:
        assert post(client, "/decode", z=document["z"])["images"] == document["images"]
    assert document["images"] == post(client, route)["images"]


@each_route
def test_the_same_request_is_the_same_picture_in_every_form_of_answer(client: TestClient, route: str) -> None:
    body = REQUESTS[route] | {"sharpness": S}
    sharp = images(post(client, route, sharpness=S))
    np.testing.assert_array_equal(array(client.post(route, json=body, headers={"accept": NPY}).content), sharp)
    grid = decoded(client.post(route, json=body, headers={"accept": "image/png"}).content)
    np.testing.assert_array_equal(grid[:28, :28], sharp[0])


def test_every_form_of_request_says_it(client: TestClient) -> None:
    digit = digits()[:1]
    expected = post(client, "/reconstruct", images=PICTURES[:1], sample=False, sharpness=S)["images"]
    for sent in (
        {"files": [("images", encoded(digit[0]))], "data": {"sharpness": str(S)}},
        {"files": [("images", encoded(digit[0]))], "params": {"sharpness": S}},
        {"content": encoded(digit[0]), "headers": {"content-type": "image/png"}, "params": {"sharpness": S}},
        {"content": npy_bytes(digit), "headers": {"content-type": NPY}, "params": {"sharpness": S}},
    ):
        assert client.post("/reconstruct", **sent).json()["images"] == expected
    z = np.array(Z, np.float32)
    decoded_z = post(client, "/decode", sharpness=S)["images"]
    latents = {"content": npy_bytes(z), "headers": {"content-type": NPY}}
    assert client.post("/decode", **latents, params={"sharpness": S}).json()["images"] == decoded_z  # type: ignore[arg-type]
    assert client.post("/decode", json={"z": Z}, params={"sharpness": S}).json()["images"] == decoded_z


def test_many_images_are_sharpened_like_few(client: TestClient) -> None:
    many = images(post(client, "/sample", n=300, sharpness=S))
    np.testing.assert_array_equal(many[:3], images(post(client, "/sample", sharpness=S)))


def test_lines_of_a_stream_have_what_a_batch_has(client: TestClient) -> None:
    body = b"".join(json.dumps({"image": picture}).encode() + b"\n" for picture in PICTURES)
    options = {"sample": "true", "seed": 4, "sharpness": S}
    sent = {"content": body, "headers": {"content-type": "application/x-ndjson"}, "params": options}
    lines = [json.loads(line) for line in client.post("/reconstruct", **sent).iter_lines()]  # type: ignore[arg-type]
    batch = post(client, "/reconstruct", sharpness=S)
    assert [line["image"] for line in lines] == batch["images"]
    assert [line["mse"] for line in lines] == batch["mse"]
    assert client.post("/encode", **sent).status_code == 422  # type: ignore[arg-type]


class TestOpenInference:
    """The verbs' models take it as a parameter; the bare graphs take none."""

    def test_a_parameter_of_reconstruct_and_sample(self, client: TestClient) -> None:
        for kind, said in (
            ("reconstruct", {"name": "pictures", "datatype": "BYTES", "shape": [2], "data": PICTURES}),
            ("sample", {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}),
        ):
            parameters = {name: value for name, value in REQUESTS[f"/{kind}"].items() if name not in ("images", "n")}
            found = outputs(infer(client, f"mnist-mlp.{kind}", said, parameters=parameters | {"sharpness": S}))
            np.testing.assert_array_equal(found["image"], images(post(client, f"/{kind}", sharpness=S)))

    def test_many_images_too(self, client: TestClient) -> None:
        said = {"name": "n", "datatype": "INT64", "shape": [1], "data": [300]}
        found = outputs(infer(client, "mnist-mlp.sample", said, parameters={"seed": 4, "sharpness": S}))
        np.testing.assert_array_equal(found["image"], images(post(client, "/sample", n=300, sharpness=S)))

    def test_a_bad_one_is_named(self, client: TestClient) -> None:
        said = {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}
        answer = infer(client, "mnist-mlp.sample", said, parameters={"sharpness": 0.5})
        assert answer.status_code == 400
        assert "/parameters/sharpness" in answer.text


@pytest.mark.parametrize("value", [0.99, 8.01, "1.5", None, True, [2]])
@pytest.mark.parametrize("route", [route for route in REQUESTS if route != "/sample"])
def test_a_bad_one_is_named(client: TestClient, route: str, value: Any) -> None:
    answer = client.post(route, json=REQUESTS[route] | {"sharpness": value})
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == ["/sharpness"]


def test_routes_that_draw_nothing_do_not_take_it(client: TestClient) -> None:
    for route in ("/encode", "/score"):
        answer = client.post(route, json={"images": PICTURES, "sharpness": 2})
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/sharpness"]


class TestBundles:
    """A bundle's own defaults."""

    @pytest.fixture
    def sharp(self, start: Callable[..., TestClient], tmp_path: Path) -> TestClient:
        """tiny@1 without defaults, and tiny@2, the same weights with defaults."""
        write_bundle(tmp_path, prior=True)
        seal(write_bundle(tmp_path, version=2, prior=True), sharpness=2.5, temperature=0.5)
        return start(models_dir=tmp_path)

    @pytest.mark.parametrize("options", [{}, {"label": 4}, {"prior": "normal"}])
    def test_samples_have_them_unless_a_request_says_otherwise(
        self, sharp: TestClient, options: dict[str, Any]
    ) -> None:
        request = {"n": 5, "seed": 3, **options}
        usual = sharp.post("/sample", json=request).json()
        assert (usual["temperature"], usual["sharpness"]) == (0.5, 2.5)
        old = sharp.post("/sample", json=request | {"model": "tiny@1", "temperature": 0.5, "sharpness": 2.5}).json()
        assert usual == old | {"model": "tiny@2"}
        plain = sharp.post("/sample", json=request | {"temperature": 1, "sharpness": 1}).json()
        assert plain == sharp.post("/sample", json=request | {"model": "tiny@1"}).json() | {"model": "tiny@2"}
        assert plain["z"] != usual["z"]

    def test_an_answer_of_bytes_says_them_in_its_head(self, sharp: TestClient) -> None:
        answer = sharp.post("/sample", json={"n": 1}, headers={"accept": "image/png"})
        assert (answer.headers["x-temperature"], answer.headers["x-sharpness"]) == ("0.5", "2.5")

    def test_all_other_pictures_stay_bare(self, sharp: TestClient) -> None:
        z = sharp.post("/sample", json={"n": 2}).json()["z"]
        new, old = (
            sharp.post("/decode", json={"z": z, "model": model}).json()["images"] for model in ("tiny@2", "tiny@1")
        )
        assert new == old

    def test_the_list_of_models_has_them(self, sharp: TestClient) -> None:
        models = sharp.get("/models").json()["models"]
        assert [(model["sharpness"], model["temperature"]) for model in models] == [(1, 1), (2.5, 0.5)]


def test_the_curve_of_a_picture_is_the_contract_s(client: TestClient) -> None:
    bare, sharp = images(post(client, "/decode")), images(post(client, "/decode", sharpness=1.3))
    np.testing.assert_array_equal(sharp, np.frombuffer(tone_curve(1.3), np.uint8)[bare])
