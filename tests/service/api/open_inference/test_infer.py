from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, digits, encoded
from service.images.codec import npy_bytes
from tests.service.api.open_inference.asking import LENGTH, Array, files, images, infer, outputs, tensor

N = {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}
PICTURES: dict[str, Any] = {
    "name": "pictures",
    "datatype": "BYTES",
    "shape": [2],
    "data": [base64_png(image) for image in digits()[:2]],
}


def latents(client: TestClient, count: int) -> npt.NDArray[np.float32]:
    """What `/encode` says of the first digits: mu and logvar."""
    headers = {"Content-Type": "application/x-npy", "Accept": "application/octet-stream"}
    answer = client.post("/encode", content=npy_bytes(digits()[:count]), headers=headers)
    return np.frombuffer(answer.content, np.float32).reshape(2, count, 20)


class TestEncoder:
    """Images, as arrays, to latents."""

    @pytest.mark.parametrize("count", [1, 7, 64])
    @pytest.mark.parametrize("binary_in", [False, True])
    @pytest.mark.parametrize("binary_out", [False, True])
    def test_it_gives_what_encode_gives(
        self, client: TestClient, count: int, binary_in: bool, binary_out: bool
    ) -> None:
        array = digits()[:count]
        answer = infer(
            client,
            "mnist-mlp.encoder",
            images(array, binary=binary_in),
            tail=array.tobytes() if binary_in else b"",
            parameters={"binary_data_output": binary_out},
        )
        found = outputs(answer)
        assert (LENGTH in answer.headers) == binary_out
        assert answer.headers["content-type"] == f"application/{'octet-stream' if binary_out else 'json'}"
        mu, logvar = latents(client, count)
        np.testing.assert_array_equal(found["mu"], mu)
        np.testing.assert_array_equal(found["logvar"], logvar)

    def test_outputs_come_in_the_order_asked_for_each_in_its_own_form(self, client: TestClient) -> None:
        asked = [{"name": "logvar", "parameters": {"binary_data": True}}, {"name": "mu"}]
        answer = infer(client, "mnist-mlp.encoder", images(digits()[:2]), outputs=asked)
        found = outputs(answer)
        assert list(found) == ["logvar", "mu"]
        np.testing.assert_array_equal(found["mu"], latents(client, 2)[0])
        np.testing.assert_array_equal(found["logvar"], latents(client, 2)[1])

    def test_an_output_overrides_what_the_request_says_of_all(self, client: TestClient) -> None:
        asked = [{"name": "mu", "parameters": {"binary_data": False}}]
        answer = infer(
            client, "mnist-mlp.encoder", images(digits()[:1]), outputs=asked, parameters={"binary_data_output": True}
        )
        assert LENGTH not in answer.headers
        assert list(outputs(answer)) == ["mu"]

    def test_data_may_be_flat(self, client: TestClient) -> None:
        flat = {"name": "image", "datatype": "UINT8", "shape": [2, 28, 28], "data": digits()[:2].ravel().tolist()}
        np.testing.assert_array_equal(outputs(infer(client, "mnist-mlp.encoder", flat))["mu"], latents(client, 2)[0])

    def test_the_id_comes_back(self, client: TestClient) -> None:
        answer = infer(client, "mnist-mlp.encoder", images(digits()[:1]), id='a "name" of 漢字')
        assert answer.json()["id"] == 'a "name" of 漢字'
        assert "id" not in infer(client, "mnist-mlp.encoder", images(digits()[:1])).json()

    def test_a_version_can_be_asked_for(self, start: Callable[..., TestClient]) -> None:
        client, sent = start(), images(digits()[:1, 8:14, 12:16])
        first = infer(client, "tiny.encoder/versions/1", sent)
        second = infer(client, "tiny.encoder/versions/2", sent)
        assert (first.json()["model_version"], second.json()["model_version"]) == ("1", "2")
        assert first.json()["model_name"] == "tiny.encoder"
        assert (outputs(first)["mu"] != outputs(second)["mu"]).any()
        assert infer(client, "tiny.encoder", sent).json() == second.json()

    def test_a_body_may_be_nothing_but_images(self, client: TestClient) -> None:
        for count in (1, 3):
            answer = client.post(
                "/v2/models/mnist-mlp.encoder/infer", content=digits()[:count].tobytes(), headers={LENGTH: "0"}
            )
            assert LENGTH in answer.headers
            np.testing.assert_array_equal(outputs(answer)["mu"], latents(client, count)[0])

    def test_requests_with_the_same_json_have_each_their_own_images(self, client: TestClient) -> None:
        mu = latents(client, 4)[0]
        for index in (0, 3, 0):
            array = digits()[index : index + 1]
            answer = infer(client, "mnist-mlp.encoder", images(array, binary=True), tail=array.tobytes())
            np.testing.assert_array_equal(outputs(answer)["mu"][0], mu[index])

    def test_what_clients_send_unasked_is_tolerated(self, client: TestClient) -> None:
        tolerated = {"sequence_id": 7, "sequence_start": True, "sequence_end": False, "priority": 1, "triton_x": "y"}
        answer = infer(client, "mnist-mlp.encoder", images(digits()[:1]), parameters=tolerated, unknown=[1])
        np.testing.assert_array_equal(outputs(answer)["mu"], latents(client, 1)[0])


class TestDecoder:
    """Latents to images."""

    @pytest.mark.parametrize("binary", [False, True])
    def test_it_gives_what_decode_gives_and_the_mean_images(self, client: TestClient, binary: bool) -> None:
        z = np.linspace(-2, 2, 3 * 20, dtype=np.float32).reshape(3, 20)
        answer = infer(
            client, "mnist-mlp.decoder", tensor("z", "FP32", z, binary=binary), tail=z.tobytes() if binary else b""
        )
        found = outputs(answer)
        raw = client.post("/decode", json={"z": z.tolist()}, headers={"Accept": "application/octet-stream"})
        np.testing.assert_array_equal(found["image"].ravel(), np.frombuffer(raw.content, np.uint8))
        scaled = np.round((found["x_hat"] + 1) * 127.5).clip(0, 255).astype(np.int16)
        assert np.abs(scaled - found["image"]).max() <= 1

    def test_whole_numbers_are_numbers_too(self, client: TestClient) -> None:
        zeros = {"name": "z", "datatype": "FP32", "shape": [1, 20], "data": [0] * 20}
        assert outputs(infer(client, "mnist-mlp.decoder", zeros))["image"].shape == (1, 28, 28)


class TestEncode:
    """Picture files to latents."""

    def test_files_come_as_bytes_or_in_base64(self, client: TestClient) -> None:
        pictures = [encoded(image) for image in digits()[:3]]
        data = files(*pictures)
        head = {"name": "pictures", "datatype": "BYTES", "shape": [3]}
        in_bytes = infer(client, "mnist-mlp.encode", head | {"parameters": {"binary_data_size": len(data)}}, tail=data)
        in_json = infer(
            client, "mnist-mlp.encode", head | {"data": [base64.b64encode(each).decode() for each in pictures]}
        )
        for answer in (in_bytes, in_json):
            np.testing.assert_array_equal(outputs(answer)["mu"], latents(client, 3)[0])

    def test_a_body_may_be_nothing_but_one_picture(self, client: TestClient) -> None:
        for picture in (encoded(digits()[0]), encoded(digits()[0], "BMP")):
            answer = client.post("/v2/models/mnist-mlp.encode/infer", content=picture, headers={LENGTH: "0"})
            np.testing.assert_array_equal(outputs(answer)["mu"], latents(client, 1)[0])

    def test_pictures_are_prepared_as_the_parameter_says(self, client: TestClient) -> None:
        photo = encoded(255 - np.kron(digits()[0], np.ones((4, 4), np.uint8)))
        head = {"name": "pictures", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(photo).decode()]}
        found = {
            preprocess: outputs(infer(client, "mnist-mlp.encode", head, parameters={"preprocess": preprocess}))["mu"]
            for preprocess in ("digit", "resize")
        }
        for preprocess, mu in found.items():
            said = client.post("/encode", json={"images": head["data"], "preprocess": preprocess}).json()
            np.testing.assert_array_equal(mu, np.array(said["mu"], np.float32))
        assert (found["digit"] != found["resize"]).any()


class TestVerbs:
    """Models that are verbs answer as these do, whatever their options."""

    @pytest.mark.parametrize("options", [{}, {"sample": True, "seed": 3}, {"sample": False, "preprocess": "digit"}])
    def test_encode(self, client: TestClient, options: dict[str, Any]) -> None:
        answer = infer(client, "mnist-mlp.encode", PICTURES, parameters=options)
        said = client.post("/encode", json={"images": PICTURES["data"], **options}).json()
        self.same(outputs(answer), said, "mu", "logvar", *(["z"] if options.get("sample") else []))
        assert answer.json().get("parameters") == ({"seed": 3} if "z" in said else None)

    @pytest.mark.parametrize("options", [{}, {"sample": True, "seed": 3}, {"preprocess": "resize"}])
    def test_reconstruct(self, client: TestClient, options: dict[str, Any]) -> None:
        body = {"images": PICTURES["data"], **options}
        answer = infer(client, "mnist-mlp.reconstruct", PICTURES, parameters=options)
        found, said = outputs(answer), client.post("/reconstruct", json=body).json()
        raw = client.post("/reconstruct", json=body, headers={"Accept": "application/octet-stream"})
        np.testing.assert_array_equal(found.pop("image").ravel(), np.frombuffer(raw.content, np.uint8))
        self.same(found, said, "mu", "logvar", "mse", *(["z"] if options.get("sample") else []))
        assert answer.json().get("parameters") == ({"seed": 3} if "z" in said else None)

    @pytest.mark.parametrize("options", [{}, {"k": 5, "seed": 3}])
    def test_score(self, client: TestClient, options: dict[str, Any]) -> None:
        answer = infer(client, "mnist-mlp.score", PICTURES, parameters=options)
        said = client.post("/score", json={"images": PICTURES["data"], **options}).json()
        names = ["distortion", "rate", "elbo", "typicality", *(["log_likelihood"] if options else [])]
        self.same(outputs(answer), said, *names)
        assert answer.json().get("parameters") == ({"seed": 3} if options else None)

    def test_a_draw_without_a_seed_can_be_made_again(self, client: TestClient) -> None:
        sent: dict[str, Any] = {"sample": True}
        first = infer(client, "mnist-mlp.encode", PICTURES, parameters=sent).json()
        again = infer(client, "mnist-mlp.encode", PICTURES, parameters={**sent, **first["parameters"]}).json()
        assert again == first

    def test_an_output_that_needs_a_parameter_may_come_alone(self, client: TestClient) -> None:
        asked = [{"name": "z", "parameters": {"binary_data": True}}]
        answer = infer(client, "mnist-mlp.encode", PICTURES, outputs=asked, parameters={"sample": True, "seed": 3})
        assert list(outputs(answer)) == ["z"]

    def test_a_body_that_is_one_picture_gives_what_needs_no_parameter(self, client: TestClient) -> None:
        for kind, names in (("encode", ["mu", "logvar"]), ("reconstruct", ["image", "mu", "logvar", "mse"])):
            answer = client.post(
                f"/v2/models/mnist-mlp.{kind}/infer", content=encoded(digits()[0]), headers={LENGTH: "0"}
            )
            assert list(outputs(answer)) == names

    @staticmethod
    def same(found: dict[str, Array], said: dict[str, Any], *names: str) -> None:
        assert set(found) == set(names)
        for name in names:
            np.testing.assert_array_equal(found[name], np.array(said[name], np.float32))


class TestSample:
    """New images."""

    @pytest.mark.parametrize(
        "parameters",
        [
            {"seed": 4},
            {"seed": 4, "label": 7},
            {"seed": 4, "temperature": 0.5, "prior": "normal"},
            {"seed": 4, "temperature": 0},
        ],
    )
    def test_it_gives_what_the_verb_gives(self, client: TestClient, parameters: dict[str, Any]) -> None:
        answer = infer(client, "mnist-mlp.sample", N, parameters=parameters)
        said = client.post("/sample", json={"n": 3, **parameters}).json()
        np.testing.assert_array_equal(outputs(answer)["z"], np.array(said["z"], np.float32))
        used = {name: said[name] for name in ("prior", "temperature", "sharpness")}
        assert answer.json()["parameters"] == {"seed": 4, **used}

    def test_without_a_seed_the_answer_says_which_one_was_drawn(self, client: TestClient) -> None:
        first = infer(client, "mnist-mlp.sample", N)
        again = infer(client, "mnist-mlp.sample", N, parameters={"seed": first.json()["parameters"]["seed"]})
        assert again.json() == first.json()


def test_colour_models_take_images_of_three_channels(start: Callable[..., TestClient]) -> None:
    array: Array = np.arange(2 * 6 * 4 * 3, dtype=np.uint8).reshape(2, 6, 4, 3)
    client = start()
    assert client.get("/v2/models/colour.encoder").json()["inputs"][0]["shape"] == [-1, 6, 4, 3]
    assert outputs(infer(client, "colour.encoder", images(array)))["mu"].shape == (2, 3)
