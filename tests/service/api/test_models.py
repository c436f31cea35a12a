from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.paths import MODELS
from service.errors import Overloaded
from service.inference.admission import Reservation
from tests.bundles import write_bundle


def test_the_list_holds_every_contract_with_its_card_and_provider(client: TestClient) -> None:
    body = client.get("/models").json()
    assert body["default"] == "mnist-mlp@2"
    assert body["refused"] == {}
    folder = MODELS / "mnist-mlp" / "2"
    (model,) = [model for model in body["models"] if model["id"] == "mnist-mlp@2"]
    assert model.pop("card") == (folder / "README.md").read_text()
    assert model.pop("provider") == "CPUExecutionProvider"
    assert model.pop("id") == "mnist-mlp@2"
    assert (model.pop("priors"), model.pop("labels")) == (["normal", "aggregate"], list(range(10)))
    assert model.pop("label_names") == []
    with np.load(folder / "statistics.npz") as statistics:
        order = np.argsort(-statistics["rate"], kind="stable")
        assert model.pop("latents") == [
            {"index": int(index)} | {name: float(statistics[name][index]) for name in ("rate", "mu_mean", "mu_std")}
            for index in order
        ]
    assert (model.pop("sharpness"), model.pop("temperature")) == (1, 1)
    assert model == json.loads((folder / "model.json").read_text())


def test_one_model_is_found_by_name_or_version(start: Callable[..., TestClient]) -> None:
    client = start()
    assert client.get("/models/tiny").json()["id"] == "tiny@2"
    assert client.get("/models/tiny@1").json()["id"] == "tiny@1"
    assert [model["id"] for model in client.get("/models").json()["models"]] == ["colour@1", "tiny@1", "tiny@2"]


def test_an_unknown_model_is_not_found(client: TestClient) -> None:
    answer = client.get("/models/nobody")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "There is no model 'nobody'."


def test_a_refused_bundle_is_shown_with_its_reason(start: Callable[..., TestClient], tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, "broken") / "decoder.onnx").unlink()
    body = start(models_dir=tmp_path).get("/models").json()
    assert [model["id"] for model in body["models"]] == ["tiny@1"]
    assert "decoder.onnx cannot be read" in body["refused"]["broken/1"]


def test_a_short_list_says_what_a_client_needs_to_choose(client: TestClient) -> None:
    full, short = client.get("/models"), client.get("/models?view=short")
    assert short.json()["default"] == full.json()["default"]
    fields = ("id", "name", "version", "dataset", "image_shape", "latent_dim")
    assert short.json()["models"] == [{field: model[field] for field in fields} for model in full.json()["models"]]
    assert len(short.content) < 200 * len(short.json()["models"])
    assert client.get("/models?view=full").content == full.content


def test_another_view_is_refused(client: TestClient) -> None:
    answer = client.get("/models?view=long")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/view", "detail": "Neither full nor short."}]


@pytest.mark.parametrize(
    "path", ["/models", "/models?view=short", "/models/mnist-mlp", "/models/mnist-mlp/files/README.md"]
)
class TestTags:
    def test_who_has_it_already_is_told_so(self, client: TestClient, path: str) -> None:
        first = client.get(path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for names in (tag, f"W/{tag}", f'"another", {tag}'):
            again = client.get(path, headers={"if-none-match": names})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(path, headers={"if-none-match": "*"}).status_code == 304
        lines = [("if-none-match", '"another"'), ("if-none-match", tag)]
        assert client.get(path, headers=httpx.Headers(lines)).status_code == 304

    def test_who_has_something_else_gets_it(self, client: TestClient, path: str) -> None:
        for names in ('"another"', "", "nonsense", client.get(path).headers["etag"].strip('"')):
            assert client.get(path, headers={"if-none-match": names}).status_code == 200


class TestFiles:
    def test_every_file_of_the_contract_is_served_as_it_was_hashed(self, client: TestClient) -> None:
        files = client.get("/models/mnist-mlp").json()["files"]
        assert "reconstructions.png" in files
        for name, digest in files.items():
            answer = client.get(f"/models/mnist-mlp/files/{name}", headers={"accept-encoding": "identity"})
            assert hashlib.sha256(answer.content).hexdigest() == digest
            assert answer.headers["etag"] == f'"{digest}"'
            assert answer.headers["x-content-type-options"] == "nosniff"

    def test_the_links_of_a_card_lead_to_its_pictures(self, client: TestClient) -> None:
        card = client.get("/models/mnist-mlp/files/README.md")
        assert card.headers["content-type"] == "text/markdown; charset=utf-8"
        links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", card.text)
        assert links
        for link in links:
            picture = client.get(str(card.url.join(link)))
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")

    def test_graphs_are_bytes(self, client: TestClient) -> None:
        answer = client.head("/models/mnist-mlp/files/encoder.onnx")
        assert answer.headers["content-type"] == "application/octet-stream"

    @pytest.mark.parametrize(
        "path",
        [
            "model.json",
            "..%2f1%2fREADME.md",
            "%2e%2e",
            "%2fetc%2fpasswd",
            "README.md%00",
            "a" * 300,
        ],
    )
    def test_what_the_contract_does_not_name_is_not_found(self, client: TestClient, path: str) -> None:
        assert client.get(f"/models/mnist-mlp/files/{path}").status_code == 404
        assert client.get("/models/nobody/files/README.md").status_code == 404

    def test_a_file_that_has_changed_since_is_not_served(
        self, start: Callable[..., TestClient], tmp_path: Path
    ) -> None:
        card = write_bundle(tmp_path) / "README.md"
        client = start(models_dir=tmp_path, watch_seconds=3600)
        tag = client.get("/models/tiny/files/README.md").headers["etag"]
        for damage in (lambda: card.write_text("Another card."), card.unlink, card.mkdir):
            damage()
            answer = client.get("/models/tiny/files/README.md")
            assert answer.status_code == 404
            assert "not there any more" in answer.json()["detail"]
        assert client.get("/models/tiny/files/README.md", headers={"if-none-match": tag}).status_code == 304

    def test_its_bytes_are_reserved_until_it_is_sent(
        self, start: Callable[..., TestClient], tiny_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = {name: (tiny_models / "tiny" / "2" / name).stat().st_size for name in ("encoder.onnx", "README.md")}
        assert sizes["README.md"] < sizes["encoder.onnx"]
        client = start(memory_bytes=sizes["encoder.onnx"])
        for _ in range(3):  # none of them leaves anything reserved
            assert client.get("/models/tiny/files/encoder.onnx").status_code == 200
        client = start(memory_bytes=sizes["encoder.onnx"] - 1)
        assert client.get("/models/tiny/files/encoder.onnx").status_code == 413
        assert client.get("/models/tiny/files/README.md").status_code == 200

        def is_full(*_: object) -> None:
            raise Overloaded("Other requests have the memory that this one needs.", "bodies_full")

        monkeypatch.setattr(Reservation, "hold_bytes", is_full)
        answer = client.get("/models/tiny/files/README.md")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert 'vae_rejected_total{reason="bodies_full"} 1.0' in client.get("/metrics").text
