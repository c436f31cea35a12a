from __future__ import annotations

import json

from fastapi.testclient import TestClient

from harness.paths import ROOT

COMMITTED = ROOT / "docs" / "openapi.json"


def test_the_committed_document_is_the_one_that_is_served(client: TestClient) -> None:
    """`make openapi` writes it anew: look at the difference, it is what clients will notice."""
    assert client.get("/openapi.json").json() == json.loads(COMMITTED.read_text())


def test_every_reference_leads_somewhere(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references
    assert references <= set(schemas)


def test_no_answer_is_foretold_that_cannot_come(client: TestClient) -> None:
    assert "ValidationError" not in client.get("/openapi.json").text


def test_every_verb_documents_its_bodies_its_answers_and_its_problems(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for route in ("/encode", "/reconstruct", "/sample", "/decode"):
        verb = paths[route]["post"]
        assert "application/json" in verb["requestBody"]["content"]
        assert "application/x-npy" in verb["responses"]["200"]["content"]
        for status in ("400", "404", "406", "413", "415", "422", "500"):
            assert list(verb["responses"][status]["content"]) == ["application/problem+json"]
    for route in ("/encode", "/reconstruct"):
        content = paths[route]["post"]["requestBody"]["content"]
        assert {"multipart/form-data", "image/png", "image/jpeg", "image/webp", "application/x-npy"} <= set(content)
