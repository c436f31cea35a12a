from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from harness.digits import digits
from service.api.open_inference.models import KINDS
from tests.service.api.open_inference.asking import error, images, infer

LATENTS = [{"name": name, "datatype": "FP32", "shape": [-1, 20]} for name in ("mu", "logvar")]
Z = {"name": "z", "datatype": "FP32", "shape": [-1, 20]}
WITHOUT_SCORE = len(KINDS) - 1  # the tiny bundles have no statistics
FILES = [{"name": "pictures", "datatype": "BYTES", "shape": [-1]}]
PICTURES = [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]


class TestHealth:
    """What orchestrators ask."""

    def test_the_server_is_live_and_ready(self, client: TestClient) -> None:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}

    def test_it_is_not_ready_while_it_drains_and_neither_are_its_models(self, start: Callable[..., TestClient]) -> None:
        client = start()
        client.app.state.health.drain()  # type: ignore[attr-defined]
        for path in ("/v2/health/ready", "/v2/models/tiny.encoder/ready"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert error(answer) == "Draining: the process has been asked to stop."
        assert client.get("/v2/health/live").status_code == 200

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    def test_the_server_says_its_extensions(self, client: TestClient, path: str) -> None:
        document = client.get(path).json()
        assert document["name"] == "vae-service"
        assert document["version"] == client.get("/openapi.json").json()["info"]["version"]
        assert "binary_tensor_data" in document["extensions"]


class TestMetadata:
    """What models say of themselves."""

    @pytest.mark.parametrize(
        ("kind", "takes", "gives"),
        [
            ("encoder", PICTURES, LATENTS),
            (
                "decoder",
                [Z],
                [*PICTURES, {"name": "x_hat", "datatype": "FP32", "shape": [-1, 28, 28]}],
            ),
            ("encode", FILES, [*LATENTS, Z]),
            ("reconstruct", FILES, [*PICTURES, *LATENTS, Z, {"name": "mse", "datatype": "FP32", "shape": [-1]}]),
            (
                "sample",
                [{"name": "n", "datatype": "INT64", "shape": [1]}],
                [*PICTURES, Z],
            ),
        ],
    )
    def test_of_each_kind(self, client: TestClient, kind: str, takes: list[Any], gives: list[Any]) -> None:
        document = client.get(f"/v2/models/mnist-mlp.{kind}").json()
        assert (document["name"], document["versions"]) == (f"mnist-mlp.{kind}", ["1", "2"])
        assert (document["inputs"], document["outputs"]) == (takes, gives)
        assert client.get(f"/v2/models/mnist-mlp.{kind}/versions/1").json() == document
        assert client.get(f"/v2/models/mnist-mlp.{kind}/ready").json() == {"name": f"mnist-mlp.{kind}", "ready": True}

    def test_there_is_a_score_of_versions_with_statistics_alone(self, client: TestClient) -> None:
        document = client.get("/v2/models/mnist-mlp.score").json()
        assert (document["versions"], document["inputs"]) == (["2"], FILES)
        names = ["distortion", "rate", "elbo", "typicality", "log_likelihood"]
        assert document["outputs"] == [{"name": name, "datatype": "FP32", "shape": [-1]} for name in names]
        answer = client.get("/v2/models/mnist-mlp.score/versions/1")
        assert (answer.status_code, error(answer)) == (
            404,
            "There is no model 'mnist-mlp.score' of mnist-mlp@1: its bundle has no statistics.",
        )

    @pytest.mark.parametrize(
        ("kind", "form"),
        [
            ("encode", "ImageRequest"),
            ("reconstruct", "ReconstructRequest"),
            ("score", "ScoreRequest"),
            ("sample", "SampleRequest"),
        ],
    )
    def test_parameters_are_the_options_of_the_verb(self, client: TestClient, kind: str, form: str) -> None:
        fields = client.get("/openapi.json").json()["components"]["schemas"][form]["properties"]
        expected = set(fields) - {"images", "model", "n", "preview"}
        properties = client.get(f"/v2/models/mnist-mlp.{kind}").json()["properties"]
        assert set(properties) == expected
        assert all(properties.values())
        parameters = client.get(f"/v2/models/mnist-mlp.{kind}/config").json()["parameters"]
        assert parameters == {name: {"string_value": meaning} for name, meaning in properties.items()}

    def test_graphs_have_no_parameters(self, client: TestClient) -> None:
        for kind in ("encoder", "decoder"):
            assert client.get(f"/v2/models/mnist-mlp.{kind}").json()["properties"] == {}

    def test_a_configuration_has_the_shapes_of_one_image(self, client: TestClient) -> None:
        document = client.get("/v2/models/mnist-mlp.encoder/versions/2/config").json()
        assert (document["name"], document["platform"]) == ("mnist-mlp.encoder", "onnxruntime_onnx")
        assert document["max_batch_size"] == 1024
        assert document["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [28, 28]}]
        assert document["output"][0] == {"name": "mu", "data_type": "TYPE_FP32", "dims": [20]}

    def test_a_model_without_batches_says_so(self, client: TestClient) -> None:
        document = client.get("/v2/models/mnist-mlp.sample/config").json()
        assert document["max_batch_size"] == 0
        assert document["input"] == [{"name": "n", "data_type": "TYPE_INT64", "dims": [1]}]

    @pytest.mark.parametrize(
        "name",
        [
            "nobody.encoder",
            "mnist-mlp",
            "mnist-mlp.decode",
            "mnist-mlp@2.encoder",
            "a%20b",
            "%22.encoder",
            "%25.encode",
        ],
    )
    @pytest.mark.parametrize("rest", ["", "/ready", "/config", "/stats", "/versions/1", "/versions/1/ready"])
    def test_an_unknown_model_is_404(self, client: TestClient, name: str, rest: str) -> None:
        answer = client.get(f"/v2/models/{name}{rest}")
        assert answer.status_code == 404
        assert "There is no" in error(answer)

    @pytest.mark.parametrize("version", ["3", "0", "02", "-1", "two", "1.0", "%C2%B2", "9" * 30])
    @pytest.mark.parametrize("rest", ["", "/ready", "/config", "/stats"])
    def test_an_unknown_version_is_404(self, client: TestClient, version: str, rest: str) -> None:
        answer = client.get(f"/v2/models/mnist-mlp.encoder/versions/{version}{rest}")
        assert answer.status_code == 404
        assert "There is no version" in error(answer)


class TestStatistics:
    """Counts and times of the requests to each model."""

    def test_they_count_images_and_failures_of_one_model_alone(self, start: Callable[..., TestClient]) -> None:
        client, sent = start(), images(digits()[:5, 8:14, 12:16])
        assert [infer(client, "tiny.encoder", sent).status_code for _ in range(2)] == [200, 200]
        n = {"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}
        assert infer(client, "tiny.sample", n, parameters={"label": 99}).status_code == 404
        (encoder,) = client.get("/v2/models/tiny.encoder/versions/2/stats").json()["model_stats"]
        assert (encoder["inference_count"], encoder["execution_count"]) == (10, 2)
        assert encoder["inference_stats"]["success"]["count"] == 2
        assert encoder["inference_stats"]["success"]["ns"] >= encoder["inference_stats"]["compute_infer"]["ns"] > 0
        assert encoder["last_inference"] > 0
        (sample,) = client.get("/v2/models/tiny.sample/versions/2/stats").json()["model_stats"]
        assert (sample["inference_stats"]["fail"]["count"], sample["inference_count"]) == (1, 0)
        (decoder,) = client.get("/v2/models/tiny.decoder/versions/2/stats").json()["model_stats"]
        assert decoder["execution_count"] == 0

    def test_of_all_models_and_of_all_versions_of_one(self, start: Callable[..., TestClient]) -> None:
        client = start()
        every = client.get("/v2/models/stats").json()["model_stats"]
        assert len(every) == 3 * WITHOUT_SCORE
        versions = client.get("/v2/models/tiny.encode/stats").json()["model_stats"]
        assert [(each["name"], each["version"]) for each in versions] == [("tiny.encode", "1"), ("tiny.encode", "2")]


class TestRepository:
    """The folder of models, seen through the protocol."""

    def test_the_index_has_every_model_and_what_was_refused(
        self, start: Callable[..., TestClient], tiny_models: Path, tmp_path: Path
    ) -> None:
        models = tmp_path / "models"
        shutil.copytree(tiny_models, models)
        (models / "tiny" / "2" / "encoder.onnx").write_bytes(b"nonsense")
        client = start(models)
        index = client.post("/v2/repository/index").json()
        states = {(each["name"], each["version"]): each["state"] for each in index}
        assert states["tiny.encoder", "1"] == "READY"
        assert states["tiny.encoder", "2"] == "UNAVAILABLE"
        assert all(each["reason"] for each in index if each["state"] == "UNAVAILABLE")
        ready = client.post("/v2/repository/index", json={"ready": True}).json()
        assert {each["state"] for each in ready} == {"READY"}
        assert len(ready) == 2 * WITHOUT_SCORE

    @pytest.mark.parametrize("body", [b"[]", b"{", b'{"ready": 1}', b" " * 5000])
    def test_a_bad_question_for_the_index_is_refused(self, client: TestClient, body: bytes) -> None:
        answer = client.post("/v2/repository/index", content=body)
        assert answer.status_code == (413 if len(body) > 4096 else 400)
        error(answer)

    @pytest.mark.parametrize("change", ["load", "unload"])
    def test_models_come_and_go_by_the_folder_alone(self, client: TestClient, change: str) -> None:
        answer = client.post(f"/v2/repository/models/mnist-mlp.encoder/{change}", json={"parameters": {}})
        assert answer.status_code == 403
        assert "The folder of models rules" in error(answer)
