"""The way of an inference request through the service: it is that of the verbs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.connection import Connection
from harness.digits import digits, encoded
from tests.service.api.in_bytes import answer as next_answer
from tests.service.api.in_bytes import path_of, post
from tests.service.api.open_inference.asking import LENGTH, files, images, infer, outputs

ENCODER = "/v2/models/mnist-mlp.encoder/infer"
TEXT = json.dumps({"inputs": [images(digits()[:1], binary=True)], "parameters": {"binary_data_output": True}}).encode()
N = {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (ENCODER, {"json": {"inputs": [images(digits()[:2])], "id": "7"}}),
        (ENCODER, {"content": TEXT + digits()[0].tobytes(), "headers": {LENGTH: str(len(TEXT))}}),
        (ENCODER, {"content": digits()[0].tobytes(), "headers": {LENGTH: "0"}}),
        (ENCODER, {"content": TEXT, "headers": {LENGTH: "nonsense"}}),
        (ENCODER, {"content": b"{"}),
        (ENCODER, {"content": b"{", "headers": {"Content-Encoding": "br"}}),
        ("/v2/models/mnist-mlp.encoder/versions/1/infer", {"json": {"inputs": [images(digits()[:1])]}}),
        ("/v2/models/mnist-mlp.encoder/versions/9/infer", {"json": {"inputs": [images(digits()[:1])]}}),
        ("/v2/models/nobody/infer", {"json": {}}),
        ("/v2/models/mnist-mlp.encode/infer", {"content": encoded(digits()[0]), "headers": {LENGTH: "0"}}),
        ("/v2/models/mnist-mlp.sample/infer", {"json": {"inputs": [N], "parameters": {"seed": 3}}}),
    ],
)
def test_the_fast_path_gives_the_same_answers_as_asgi(
    port: int, client: TestClient, path: str, sent: dict[str, Any]
) -> None:
    sent = {**sent, "headers": {**sent.get("headers", {}), "X-Request-ID": "the-same"}}
    for _ in range(2):  # the second head is one that came before
        here, there = httpx.post(f"http://127.0.0.1:{port}{path}", **sent), client.post(path, **sent)
        assert path_of(dict(here.headers)) == "fast"
        assert (here.status_code, here.content) == (there.status_code, there.content)
        assert here.headers["content-type"] == there.headers["content-type"]
        assert here.headers.get(LENGTH) == there.headers.get(LENGTH)
        assert "server-timing" in here.headers


def test_a_name_that_is_percent_encoded_takes_the_other_path(port: int) -> None:
    sent = {"inputs": [images(digits()[:1])]}
    answer = httpx.post(f"http://127.0.0.1:{port}/v2/models/mnist%2Dmlp.encoder/infer", json=sent)
    assert (path_of(dict(answer.headers)), answer.status_code) == ("asgi", 200)


def test_many_images_in_one_body_of_bytes(client: TestClient) -> None:
    many = np.resize(digits(), (1024, 28, 28))
    answer = client.post(ENCODER, content=many.tobytes(), headers={LENGTH: "0"})
    one = client.post(ENCODER, content=many[700].tobytes(), headers={LENGTH: "0"})
    np.testing.assert_allclose(outputs(answer)["mu"][700], outputs(one)["mu"][0], rtol=0, atol=1e-5)


def test_many_images_in_json(client: TestClient) -> None:
    many = np.resize(digits(), (1024, 28, 28))
    in_json = outputs(infer(client, "mnist-mlp.encoder", images(many)))
    in_bytes = outputs(client.post(ENCODER, content=many.tobytes(), headers={LENGTH: "0"}))
    np.testing.assert_array_equal(in_json["mu"], in_bytes["mu"])
    decoded = infer(client, "mnist-mlp.sample", N | {"data": [1024]}, parameters={"seed": 1})
    assert outputs(decoded)["image"].shape == (1024, 28, 28)


def test_many_pictures(client: TestClient) -> None:
    pictures = [encoded(image) for image in digits()[:200]]
    data = files(*pictures)
    head = {"name": "pictures", "datatype": "BYTES", "shape": [200], "parameters": {"binary_data_size": len(data)}}
    found = outputs(infer(client, "mnist-mlp.encode", head, tail=data))
    said = outputs(client.post(ENCODER, content=digits()[:200].tobytes(), headers={LENGTH: "0"}))
    np.testing.assert_array_equal(found["mu"], said["mu"])


def test_an_answer_is_the_same_whatever_else_is_asked(port: int) -> None:
    """Requests of both protocols that come at once share runs and nothing else."""
    sent = post(ENCODER, digits()[0].tobytes(), Inference_Header_Content_Length="0")
    with Connection(port) as connection:
        alone = connection.ask(sent).body
    with Connection(port) as connection:
        others = [
            post(),
            post(ENCODER, b"{"),
            post(ENCODER, digits()[1:9].tobytes(), Inference_Header_Content_Length="0"),
        ]
        connection.send(b"".join([others[0], sent, others[1], sent, others[2], sent]))
        answers = [next_answer(connection) for _ in range(6)]
    assert [status for status, _, _ in answers] == [200, 200, 400, 200, 200, 200]
    assert [answers[at][2] for at in (1, 3, 5)] == [alone] * 3


def test_nothing_stays_reserved(start: Callable[..., TestClient]) -> None:
    client = start()
    for answer in (
        infer(client, "tiny.encoder", images(np.zeros((900, 6, 4), np.uint8))),
        infer(client, "tiny.encoder", images(np.zeros((9000, 6, 4), np.uint8))),
        infer(client, "tiny.encoder", images(np.zeros((900, 5, 4), np.uint8))),
        infer(client, "tiny.sample", N | {"data": [1000]}, parameters={"seed": 1}),
    ):
        assert answer.status_code in (200, 400, 413)
    admission = client.app_state["app_state"].admission
    assert (admission.images, admission.bytes) == (0, 0)


def test_an_answer_with_a_long_id_is_counted(start: Callable[..., TestClient]) -> None:
    client = start(memory_bytes=1_000_000)
    assert infer(client, "tiny.sample", N, id="a" * 10_000).json()["id"] == "a" * 10_000
    assert infer(client, "tiny.sample", N, id="a" * 90_000).status_code == 413


def test_memory_for_the_numbers_of_an_answer_is_reserved_first(start: Callable[..., TestClient]) -> None:
    client = start(memory_bytes=200_000)
    n = N | {"data": [1000]}
    assert infer(client, "tiny.sample", n, parameters={"seed": 1}).status_code == 413
    assert infer(client, "tiny.sample", N, parameters={"seed": 1}).status_code == 200


def test_metrics_name_the_template_and_never_the_path(start: Callable[..., TestClient]) -> None:
    client = start()
    sent = images(np.zeros((5, 6, 4), np.uint8))
    infer(client, "tiny.encoder", sent)
    infer(client, "tiny.encoder/versions/1", sent)
    infer(client, "somebody", sent)
    client.get("/v2/models/somebody/ready")
    client.get("/v2/models/tiny.encoder/versions/1/config")
    text = client.get("/metrics").text
    assert "somebody" not in text
    counted = dict(re.findall(r"(vae_requests_total\{.*route=\"/v2.*\}) (.*)", text))
    template = "/v2/models/{model}"
    for route, method, status in (
        ("/infer", "POST", 200),
        ("/infer", "POST", 404),
        ("/versions/{version}/infer", "POST", 200),
        ("/ready", "GET", 404),
        ("/versions/{version}/config", "GET", 200),
    ):
        key = f'vae_requests_total{{method="{method}",route="{template}{route}",status="{status}"}}'
        assert counted[key] == "1.0"
    assert 'vae_images_total{model="tiny@2",verb="infer"} 5.0' in text


def test_pages_of_other_origins_may_ask_where_that_is_allowed(start: Callable[..., TestClient]) -> None:
    client = start(cors_origins="https://example.org")
    sent = images(np.zeros((1, 6, 4), np.uint8))
    answer = infer(client, "tiny.encoder", sent, headers={"Origin": "https://example.org"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://example.org")
