"""OpenAI's API as its own client speaks it, in process; tests/e2e/test_openai.py uses real servers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.digits import base64_png, digits
from service.api.openai_schemas import EmbeddingsAnswer, OpenAIError, OpenAIModelList
from service.errors import Overloaded, RuntimeFailed
from service.inference.admission import Reservation
from service.inference.autoencoder import Autoencoder

PICTURES = [base64_png(digit) for digit in digits()[:3]]
URIS = [f"data:image/png;base64,{picture}" for picture in PICTURES]


def ask(client: TestClient, pictures: Any = URIS, **options: Any) -> Any:
    answer = client.post("/v1/embeddings", json={"input": pictures} | options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, status: int, **body: Any) -> Any:
    answer = client.post("/v1/embeddings", json={"input": URIS} | body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    OpenAIError.model_validate(answer.json(), strict=True, extra="forbid")
    return answer.json()["error"]


class TestEmbeddings:
    def test_they_are_the_means_of_the_posteriors(self, client: TestClient) -> None:
        body = ask(client)
        EmbeddingsAnswer.model_validate(body, strict=True, extra="forbid")
        assert [item["index"] for item in body["data"]] == [0, 1, 2]
        encoded = client.post("/encode", json={"images": PICTURES}).json()
        assert [item["embedding"] for item in body["data"]] == encoded["mu"]
        assert body["model"] == encoded["model"]

    def test_their_use_is_counted_in_images(self, client: TestClient) -> None:
        assert ask(client)["usage"] == {"prompt_tokens": 3, "total_tokens": 3}

    def test_base64_is_the_same_numbers_as_float32(self, client: TestClient) -> None:
        numbers = [item["embedding"] for item in ask(client)["data"]]
        texts = [item["embedding"] for item in ask(client, encoding_format="base64")["data"]]
        decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in texts]
        np.testing.assert_array_equal(decoded, np.array(numbers, np.float32))

    @pytest.mark.parametrize(
        "item",
        [
            URIS[0],
            PICTURES[0],
            {"type": "image_url", "image_url": {"url": URIS[0]}},
            {"type": "image_url", "image_url": {"url": URIS[0], "detail": "low"}},
            {"type": "input_image", "image_url": URIS[0]},
        ],
    )
    def test_a_picture_may_be_written_in_each_of_these_ways(self, client: TestClient, item: object) -> None:
        expected = ask(client, URIS[0])
        assert ask(client, item) == expected
        assert ask(client, [item]) == expected
        assert len(ask(client, [item, URIS[1]])["data"]) == 2

    def test_many_are_the_same_as_few(self, client: TestClient) -> None:
        many = ask(client, [f"data:image/png;base64,{base64_png(digit)}" for digit in digits()[:100]])
        np.testing.assert_allclose(
            [item["embedding"] for item in many["data"][:3]],
            [item["embedding"] for item in ask(client)["data"]],
            rtol=1e-4,
            atol=1e-5,
        )
        assert many["usage"]["total_tokens"] == 100

    def test_models_and_preprocess_can_be_chosen(self, client: TestClient) -> None:
        body = ask(client, model="mnist-mlp@1", preprocess="none", user="somebody")
        assert body["model"] == "mnist-mlp@1"


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "param", "words"),
        [
            ({"input": "hello"}, "input", "input[0]: Not base64."),
            ({"input": [URIS[0], "https://example.org/digit.png"]}, "input", "input[1]: URLs are not fetched"),
            ({"input": [URIS[0], "QUJD"]}, "input", "input[1]: Not a picture that can be read"),
            ({"input": [URIS[0], 2, 3]}, "input", "input: Item 1 is not a picture: a data: URI"),
            ({"input": {"type": "text", "text": "hello"}}, "input", "Item 0 is not a picture: a data: URI"),
            ({"input": []}, "input", "At least one"),
            ({"input": None}, "input", "not a picture"),
            ({"dimensions": 10}, "dimensions", "It cannot be chosen: an embedding of this model has 20 numbers."),
            ({"encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
            ({"colour": "red"}, "colour", "Extra inputs are not permitted."),
        ],
    )
    def test_what_cannot_be_used_is_400_and_named(
        self, client: TestClient, body: dict[str, Any], param: str, words: str
    ) -> None:
        error = refused(client, 400, **body)
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
        assert words in error["message"]

    def test_an_unknown_model_is_404(self, client: TestClient) -> None:
        error = refused(client, 404, model="text-embedding-3-small")
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert client.get("/v1/models/nobody").json()["error"]["code"] == "model_not_found"

    def test_of_many_faults_the_first_are_told(self, client: TestClient) -> None:
        message = refused(client, 400, input=["%"] * 30)["message"]
        assert message.startswith("input[0]: Not base64. input[1]: ")
        assert message.endswith("input[9]: Not base64. And 20 more.")

    def test_too_many_are_413(self, start: Callable[..., TestClient]) -> None:
        assert refused(start(max_batch=2), 413)["param"] == "input"

    def test_what_is_not_json_is_refused(self, client: TestClient) -> None:
        for content, media_type, status in ((b"{", "application/json", 400), (b"", "image/png", 415)):
            answer = client.post("/v1/embeddings", content=content, headers={"content-type": media_type})
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_without_a_key_it_is_401(self, start: Callable[..., TestClient], tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        client = start(api_keys_file=tmp_path / "keys")
        for answer in (client.post("/v1/embeddings", json={}), client.get("/v1/models")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.json()["error"]["code"] == "invalid_api_key"

    def test_other_routes_and_methods_are_refused_in_the_same_form(self, client: TestClient) -> None:
        assert client.post("/v1/chat/completions", json={}).json()["error"]["message"] == "Not Found"
        answer = client.get("/v1/embeddings")
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
        assert answer.json()["error"]["message"] == "Method Not Allowed"

    def test_without_room_it_is_503(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def is_full(*_: object) -> None:
            raise Overloaded("The queue is full.", "queue_full")

        monkeypatch.setattr(Reservation, "hold_images", is_full)
        answer = client.post("/v1/embeddings", json={"input": URIS})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["type"] == "server_error"

    def test_a_run_that_fails_tells_nothing_of_the_inside(
        self, start: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeFailed("secret")

        client = start()
        monkeypatch.setattr(Autoencoder, "encode", fail)
        error = refused(client, 500)
        assert error["type"] == "server_error"
        assert "secret" not in error["message"]


def test_the_models_are_listed_by_the_names_that_requests_use(client: TestClient) -> None:
    body = client.get("/v1/models").json()
    OpenAIModelList.model_validate(body, strict=True, extra="forbid")
    assert [model["id"] for model in body["data"]] == [model["id"] for model in client.get("/models").json()["models"]]
    for model in body["data"]:
        assert client.get(f"/v1/models/{model['id']}").json() == model
        assert ask(client, model=model["id"])["model"] == model["id"]


def test_requests_are_counted_as_those_of_any_verb(start: Callable[..., TestClient]) -> None:
    client = start()
    ask(client, preprocess="resize")
    client.get("/v1/models/tiny")
    text = client.get("/metrics").text
    assert 'vae_requests_total{method="POST",route="/v1/embeddings",status="200"} 1.0' in text
    assert 'vae_requests_total{method="GET",route="/v1/models/{name}",status="200"} 1.0' in text
    assert 'vae_images_total{model="tiny@2",verb="embeddings"} 3.0' in text
