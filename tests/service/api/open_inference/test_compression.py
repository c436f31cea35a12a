"""Compressed requests and answers of the protocol, whose lengths are those before compression."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.codings import PACK
from harness.digits import digits
from tests.service.api.open_inference.asking import LENGTH, error, images, infer, outputs

ENCODER = "/v2/models/mnist-mlp.encoder/infer"


@pytest.mark.parametrize("coding", PACK)
def test_the_length_of_the_json_is_that_before_compression(client: TestClient, coding: str) -> None:
    array = digits()[:7]
    text = json.dumps({"inputs": [images(array, binary=True)]}).encode()
    answer = client.post(
        ENCODER,
        content=PACK[coding](text + array.tobytes()),
        headers={LENGTH: str(len(text)), "Content-Encoding": coding.upper()},
    )
    np.testing.assert_array_equal(
        outputs(answer)["mu"], outputs(infer(client, "mnist-mlp.encoder", images(array)))["mu"]
    )


def test_errors_have_the_form_of_the_protocol(client: TestClient) -> None:
    bomb = PACK["gzip"](bytes(200_000_000))
    for coding, body, status, sentence in (
        ("br", b"{}", 415, "A body may be compressed by zstd, gzip, deflate, at most 2 times."),
        ("gzip", b"{}", 400, "The body is not gzip."),
        ("gzip", bomb, 413, "The body is larger than 16777216 bytes."),
    ):
        answer = client.post(ENCODER, content=body, headers={"Content-Encoding": coding})
        assert (answer.status_code, error(answer)) == (status, sentence)


def test_so_do_questions_for_the_index(client: TestClient) -> None:
    plain = client.post("/v2/repository/index", json={"ready": True})
    packed = client.post(
        "/v2/repository/index", content=PACK["gzip"](b'{"ready": true}'), headers={"Content-Encoding": "gzip"}
    )
    assert (packed.status_code, packed.json()) == (200, plain.json())
    bomb = client.post(
        "/v2/repository/index", content=PACK["gzip"](bytes(1_000_000)), headers={"Content-Encoding": "gzip"}
    )
    assert (bomb.status_code, error(bomb)) == (413, "The body is larger than 4096 bytes.")


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("binary", [False, True])
def test_a_long_answer_is_compressed_and_says_the_same(client: TestClient, coding: str, binary: bool) -> None:
    n = {"name": "n", "datatype": "INT64", "shape": [1], "data": [64]}
    parameters = {"binary_data_output": binary, "seed": 1}
    packed, plain = (
        infer(client, "mnist-mlp.sample", n, headers={"Accept-Encoding": accepted}, parameters=parameters)
        for accepted in (coding, "identity")
    )
    assert packed.headers["content-encoding"] == coding
    assert "content-encoding" not in plain.headers
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.content == plain.content
    assert packed.headers.get(LENGTH) == plain.headers.get(LENGTH)


def test_a_short_answer_is_not(client: TestClient) -> None:
    answer = infer(client, "mnist-mlp.encoder", images(digits()[:1]), headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers


def test_neither_are_short_descriptions(client: TestClient) -> None:
    answer = client.get("/v2/models/mnist-mlp.encoder", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
