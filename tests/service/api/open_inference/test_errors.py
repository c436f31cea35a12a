"""Every error is `{"error": "..."}`, with a sentence and the right status, and the next request is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.connection import Connection
from harness.digits import base64_png, digits
from service.api.open_inference.work import place_of
from tests.service.api.in_bytes import answer as next_answer
from tests.service.api.in_bytes import post
from tests.service.api.open_inference.asking import LENGTH, error, files, images, infer, tensor

ONE = digits()[:1]
GOOD = images(ONE)
BINARY = images(ONE, binary=True)
N = {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}
Z = {"name": "z", "datatype": "FP32", "shape": [1, 20], "data": [0.0] * 20}
PICTURES = {"name": "pictures", "datatype": "BYTES", "shape": [1]}
DIGIT = PICTURES | {"data": [base64_png(digits()[0])]}


def shaped(*shape: Any) -> dict[str, Any]:
    return GOOD | {"shape": list(shape)}


def holding(*data: Any) -> dict[str, Any]:
    return GOOD | {"data": list(data)}


@pytest.mark.parametrize(
    ("model", "sent", "sentence"),
    [
        ("encoder", {"inputs": []}, "/inputs: List should have at least 1 item"),
        ("encoder", {}, "/inputs: Field required"),
        ("encoder", {"inputs": [GOOD, GOOD]}, "mnist-mlp.encoder has one input, image."),
        ("encoder", {"inputs": [GOOD | {"name": "picture"}]}, "mnist-mlp.encoder has one input, image."),
        ("encoder", {"inputs": [GOOD | {"datatype": "FP32"}]}, "/inputs/0/datatype: image is UINT8, not 'FP32'."),
        ("encoder", {"inputs": [shaped(1, 28, 27)]}, "/inputs/0/shape: image has the shape [-1, 28, 28]"),
        ("encoder", {"inputs": [shaped(1, 784)]}, "/inputs/0/shape: image has the shape [-1, 28, 28]"),
        ("encoder", {"inputs": [shaped(-1, 28, 28)]}, "/inputs/0/shape: image has the shape [-1, 28, 28]"),
        ("encoder", {"inputs": [shaped(1.5, 28, 28)]}, "/inputs/0/shape/0"),
        ("encoder", {"inputs": [shaped(0, 28, 28)]}, "/inputs/0/shape: At least one is needed."),
        ("encoder", {"inputs": [shaped(2, 28, 28)]}, "/inputs/0/data: 784 values do not fill the shape"),
        ("encoder", {"inputs": [holding(*[0] * 783)]}, "/inputs/0/data: 783 values do not fill the shape"),
        ("encoder", {"inputs": [holding(*[0] * 785)]}, "/inputs/0/data: More values than the shape [1, 28, 28] has."),
        ("encoder", {"inputs": [holding([[0] * 784] * 28)]}, "/inputs/0/data: More values than the shape"),
        ("encoder", {"inputs": [holding(*[0] * 783, 256)]}, "/inputs/0/data: Not all values are in the range of UINT8"),
        ("encoder", {"inputs": [holding(*[0] * 783, -1)]}, "/inputs/0/data: Not all values are in the range of UINT8"),
        ("encoder", {"inputs": [holding(*[0] * 783, 10**30)]}, "/inputs/0/data"),
        ("encoder", {"inputs": [holding(*[0] * 783, 1.0)]}, "/inputs/0/data: Not all values are integers."),
        ("encoder", {"inputs": [holding(*[0] * 783, True)]}, "/inputs/0/data: Not all values are integers."),
        ("encoder", {"inputs": [holding(*[0] * 783, None)]}, "/inputs/0/data: Not all values are integers."),
        ("encoder", {"inputs": [holding(*["0"] * 784)]}, "/inputs/0/data: Not all values are integers."),
        ("encoder", {"inputs": [holding([0], 1)]}, "/inputs/0/data: Lists and other values side by side."),
        ("encoder", {"inputs": [holding({"a": 1})]}, "/inputs/0/data"),
        ("encoder", {"inputs": [GOOD | {"data": "0" * 784}]}, "/inputs/0/data"),
        ("encoder", {"inputs": [GOOD | {"data": None}]}, "An input has either data or"),
        (
            "encoder",
            {"inputs": [GOOD | {"parameters": {"binary_data_size": 784}}]},
            "An input has either data or",
        ),
        ("encoder", {"inputs": [BINARY]}, "/inputs/0: The JSON announces 784 bytes, and 0 follow it."),
        (
            "encoder",
            {"inputs": [{**BINARY, "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 784}}]},
            "Tensors in shared memory are not offered.",
        ),
        ("encoder", {"inputs": [GOOD], "outputs": [{"name": "z"}]}, "has no output 'z'; it has mu, logvar."),
        ("encoder", {"inputs": [GOOD], "outputs": [{"name": "mu"}] * 2}, "The output mu already exists"),
        (
            "encoder",
            {"inputs": [GOOD], "outputs": [{"name": "mu", "parameters": {"classification": 3}}]},
            "Classification is not offered.",
        ),
        (
            "encoder",
            {"inputs": [GOOD], "outputs": [{"name": "mu", "parameters": {"binary_data": 1}}]},
            "/outputs/0/parameters/binary_data: Neither true nor false.",
        ),
        ("encoder", {"inputs": [GOOD], "parameters": {"sed": 3}}, "has no parameter 'sed'; it has timeout."),
        ("encoder", {"inputs": [GOOD], "parameters": {"timeout": -1}}, "Not a number of microseconds."),
        ("encoder", {"inputs": [GOOD], "parameters": {"timeout": 1.5}}, "Not a number of microseconds."),
        ("encoder", {"inputs": [GOOD], "parameters": {"timeout": True}}, "Not a number of microseconds."),
        ("encoder", {"inputs": [GOOD], "id": 7}, "/id: Input should be a valid string"),
        ("decoder", {"inputs": [Z | {"data": [*[0.0] * 19, 1e39]}]}, "/inputs/0/data/0: Not all values are between"),
        ("decoder", {"inputs": [Z | {"data": [*[0.0] * 19, 10**400]}]}, "/inputs/0/data"),
        ("decoder", {"inputs": [Z | {"data": [*[0.0] * 19, "1"]}]}, "/inputs/0/data: Not all values are numbers."),
        ("encode", {"inputs": [PICTURES | {"data": [7]}]}, "/inputs/0/data: Not all values are strings"),
        ("encode", {"inputs": [PICTURES | {"data": ["?"]}]}, "/inputs/0/data/0: Not base64."),
        ("encode", {"inputs": [PICTURES | {"data": ["AAAA"]}]}, "/inputs/0/data/0: Not a picture that can be read"),
        (
            "encode",
            {"inputs": [PICTURES | {"data": ["AAAA"]}], "parameters": {"preprocess": "magic"}},
            "/parameters/preprocess",
        ),
        (
            "encode",
            {"inputs": [PICTURES | {"data": ["AAAA"]}], "parameters": {"model": "x"}},
            "has no parameter 'model'",
        ),
        ("sample", {"inputs": [N | {"data": [0]}]}, "/inputs/0/data: Input should be greater than or equal to 1."),
        ("sample", {"inputs": [N | {"data": [2**63]}]}, "/inputs/0/data: Not all values are in the range of INT64."),
        ("sample", {"inputs": [N], "parameters": {"seed": "1"}}, "/parameters/seed"),
        ("sample", {"inputs": [N], "parameters": {"temperature": -1}}, "/parameters/temperature"),
        ("encode", {"inputs": [DIGIT], "parameters": {"sample": 1}}, "/parameters/sample"),
        ("encode", {"inputs": [DIGIT], "parameters": {"sample": None}}, "/parameters/sample"),
        ("encode", {"inputs": [DIGIT], "parameters": {"sample": True, "seed": -1}}, "/parameters/seed"),
        ("encode", {"inputs": [DIGIT], "parameters": {"preview": True}}, "it has preprocess, sample, seed, timeout."),
        (
            "encode",
            {"inputs": [DIGIT], "outputs": [{"name": "z"}]},
            "/outputs/0: z is an output only with the parameter",
        ),
        (
            "reconstruct",
            {"inputs": [DIGIT], "outputs": [{"name": "z"}], "parameters": {"sample": False}},
            "/outputs/0: z is an output only with the parameter sample.",
        ),
        (
            "score",
            {"inputs": [DIGIT], "outputs": [{"name": "log_likelihood"}]},
            "/outputs/0: log_likelihood is an output only with the parameter k.",
        ),
        ("score", {"inputs": [DIGIT], "parameters": {"k": 0}}, "/parameters/k"),
    ],
)
def test_a_request_that_asks_for_the_impossible_is_400(
    client: TestClient, model: str, sent: dict[str, Any], sentence: str
) -> None:
    answer = client.post(f"/v2/models/mnist-mlp.{model}/infer", json=sent)
    assert answer.status_code == 400
    assert sentence in error(answer)
    assert infer(client, "mnist-mlp.encoder", GOOD).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}", b"\xff"])
def test_a_body_that_is_not_json_is_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/v2/models/mnist-mlp.encoder/infer", content=body)
    assert answer.status_code == 400
    error(answer)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (("images", 3), ("inputs", 0, "data", 3)),
        (("z", 2), ("inputs", 0, "data", 2)),
        (("n",), ("inputs", 0, "data")),
        (("temperature",), ("parameters", "temperature")),
        ((), ()),
    ],
)
def test_what_a_verb_finds_is_told_with_its_place_in_the_protocol(
    found: tuple[str | int, ...], told: tuple[str | int, ...]
) -> None:
    assert place_of(found) == told


class TestBytes:
    """What is wrong with the bytes after the JSON, or with their announcement."""

    @pytest.mark.parametrize(
        "length", ["-1", "+5", "1.5", "x", "", "0x10", "99999999999999999999", "2147483648", "100000"]
    )
    def test_a_length_of_the_json_that_is_none_is_400(self, client: TestClient, length: str) -> None:
        answer = infer(client, "mnist-mlp.encoder", BINARY, tail=ONE.tobytes(), headers={LENGTH: length})
        assert answer.status_code == 400
        assert "Inference-Header-Content-Length" in error(answer)

    def test_one_that_cuts_the_json_is_400(self, client: TestClient) -> None:
        answer = infer(client, "mnist-mlp.encoder", BINARY, tail=ONE.tobytes(), headers={LENGTH: "20"})
        assert answer.status_code == 400
        assert error(answer).startswith("The body is not JSON.")

    @pytest.mark.parametrize("tail", [b"x", ONE.tobytes()[:-1], ONE.tobytes() + b"x"])
    def test_missing_and_extra_bytes_are_400(self, client: TestClient, tail: bytes) -> None:
        answer = infer(client, "mnist-mlp.encoder", BINARY, tail=tail)
        assert (answer.status_code, error(answer)) == (
            400,
            f"/inputs/0: The JSON announces 784 bytes, and {len(tail)} follow it.",
        )

    def test_bytes_that_do_not_fill_the_shape_are_400(self, client: TestClient) -> None:
        sent = BINARY | {"parameters": {"binary_data_size": 100}}
        answer = infer(client, "mnist-mlp.encoder", sent, tail=b"x" * 100)
        assert answer.status_code == 400
        assert "100 bytes do not fill [1, 28, 28] of UINT8, which takes 784." in error(answer)

    @pytest.mark.parametrize("size", [-784, 784.0, "784", True, 2**70])
    def test_a_size_that_is_none_is_400(self, client: TestClient, size: object) -> None:
        sent = BINARY | {"parameters": {"binary_data_size": size}}
        assert infer(client, "mnist-mlp.encoder", sent, tail=ONE.tobytes()).status_code == 400

    @pytest.mark.parametrize(
        "data",
        [
            files(b"abc")[:-1],
            files(b"abc") + b"\0",
            files(b"a", b"b"),
            b"\xff\xff\xff\xff",
            b"\0\0",
            files(b"a")[:3],
        ],
    )
    def test_elements_that_do_not_fill_their_bytes_are_400(self, client: TestClient, data: bytes) -> None:
        sent = PICTURES | {"parameters": {"binary_data_size": len(data)}}
        answer = infer(client, "mnist-mlp.encode", sent, tail=data)
        assert answer.status_code == 400
        assert f"{len(data)} bytes are not 1 elements" in error(answer)

    @pytest.mark.parametrize("body", [b"", b"x" * 783, b"x" * 785])
    def test_a_raw_body_that_is_no_image_is_400(self, client: TestClient, body: bytes) -> None:
        answer = client.post("/v2/models/mnist-mlp.encoder/infer", content=body, headers={LENGTH: "0"})
        assert answer.status_code == 400
        assert "image takes 784" in error(answer)

    def test_a_raw_body_for_a_model_without_batches_has_one_row(self, client: TestClient) -> None:
        two = np.array([1, 2], np.int64).tobytes()
        assert client.post("/v2/models/mnist-mlp.sample/infer", content=two, headers={LENGTH: "0"}).status_code == 400
        answer = client.post("/v2/models/mnist-mlp.sample/infer", content=two[:8], headers={LENGTH: "0"})
        assert answer.status_code == 200

    def test_numbers_that_are_not_finite_are_400(self, client: TestClient) -> None:
        z = np.full((1, 20), np.nan, np.float32)
        answer = infer(client, "mnist-mlp.decoder", tensor("z", "FP32", z, binary=True), tail=z.tobytes())
        assert answer.status_code == 400
        assert "/inputs/0/data/0: Not all values are between" in error(answer)


class TestOtherStatuses:
    """Errors that are not of the tensors."""

    @pytest.mark.parametrize("name", ["nobody.encoder", "mnist-mlp", "mnist-mlp.decode", "%22%25%27.encoder", "a%2Fb"])
    def test_an_unknown_model_is_404(self, client: TestClient, name: str) -> None:
        answer = infer(client, name, GOOD)
        assert answer.status_code == 404
        error(answer)

    def test_so_are_an_unknown_version_label_and_route(self, client: TestClient) -> None:
        for answer in (
            infer(client, "mnist-mlp.encoder/versions/9", GOOD),
            infer(client, "mnist-mlp.sample", N, parameters={"label": 99}),
            client.get("/v2/logging"),
            client.post("/v2/systemsharedmemory/region/a/register", json={}),
        ):
            assert answer.status_code == 404
            error(answer)

    def test_a_wrong_method_is_405(self, client: TestClient) -> None:
        for answer in (client.get("/v2/models/mnist-mlp.encoder/infer"), client.post("/v2/health/live")):
            assert answer.status_code == 405
            assert error(answer) == "Method Not Allowed"

    def test_too_many_images_are_413_before_they_are_looked_at(self, client: TestClient) -> None:
        for answer in (
            infer(client, "mnist-mlp.encoder", shaped(1025, 28, 28)),
            infer(client, "mnist-mlp.encoder", shaped(10**30, 28, 28)),
            infer(client, "mnist-mlp.sample", N | {"data": [1025]}),
            infer(client, "mnist-mlp.score", DIGIT, parameters={"k": 1025}),
            client.post("/v2/models/mnist-mlp.encoder/infer", content=bytes(1025 * 784), headers={LENGTH: "0"}),
        ):
            assert answer.status_code == 413
            assert "at most 1024 are allowed" in error(answer)

    def test_a_body_over_the_limit_is_413(self, start: Callable[..., TestClient]) -> None:
        client = start(max_body_bytes=1000)
        answer = infer(client, "tiny.encoder", images(np.zeros((50, 6, 4), np.uint8)))
        assert (answer.status_code, error(answer)) == (413, "The body is larger than 1000 bytes.")

    def test_without_a_key_it_is_401(self, start: Callable[..., TestClient], tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        client = start(api_keys_file=tmp_path / "keys")
        sent = images(np.zeros((1, 6, 4), np.uint8))
        for answer in (
            infer(client, "tiny.encoder", sent),
            client.get("/v2"),
            client.get("/v2/models/tiny.encoder"),
            client.post("/v2/repository/index"),
        ):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "An API key is needed" in error(answer)
        assert infer(client, "tiny.encoder", sent, headers={"X-API-Key": "sesame"}).status_code == 200
        assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200

    def test_a_deadline_that_passes_is_504(self, client: TestClient) -> None:
        for answer in (
            infer(client, "mnist-mlp.encoder", GOOD, parameters={"timeout": 1}),
            infer(client, "mnist-mlp.encode", PICTURES | {"data": ["AAAA"]}, parameters={"timeout": 1}),
        ):
            assert (answer.status_code, error(answer)) == (504, "The deadline passed before the answer was ready.")
        for timeout in (0, 10**10):
            assert infer(client, "mnist-mlp.encoder", GOOD, parameters={"timeout": timeout}).status_code == 200

    def test_a_full_queue_is_503(self, start: Callable[..., TestClient]) -> None:
        client = start(queue=10)
        client.app_state["app_state"].admission.images += 8
        sent = images(np.zeros((3, 6, 4), np.uint8))
        answer = infer(client, "tiny.encoder", sent)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert error(answer) == "The queue is full."
        client.app_state["app_state"].admission.images -= 8
        assert infer(client, "tiny.encoder", sent).status_code == 200

    def test_what_is_refused_by_its_head_has_the_same_form(self, start_server: Callable[..., int]) -> None:
        port = start_server(max_connections=1)
        with Connection(port), Connection(port) as connection:
            connection.send(post("/v2/models/mnist-mlp.encoder/infer", b"{}"))
            status, headers, body = next_answer(connection)
            assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/json", "1")
            assert json.loads(body) == {"error": "There are too many connections."}
