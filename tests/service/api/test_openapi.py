"""The OpenAPI document: is it valid, does it say what the service does, and do its examples work?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from harness.digits import base64_png, decoded, digits, encoded
from harness.paths import ROOT
from service.api.examples import DIGIT, OTHER_DIGIT
from service.errors import Overloaded
from service.images.codec import npy_bytes
from service.inference.admission import Reservation

COMMITTED = ROOT / "docs" / "openapi.json"
VERBS = ("/encode", "/reconstruct", "/score", "/sample", "/decode", "/interpolate", "/traverse")
WITH_IMAGES = {  # with the first part of their schemas' names
    "/encode": "Image",
    "/reconstruct": "Reconstruct",
    "/score": "Score",
    "/interpolate": "Interpolate",
    "/traverse": "Traverse",
}
OPEN = ("/livez", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def document(client: TestClient) -> Any:
    return client.get("/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Path, method and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def examples(document: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Path, media type and name of each example of a request body, and the example."""
    for path, _, operation in operations(document):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                yield path, media_type, name, example["value"]


def test_the_committed_document_is_the_one_that_is_served(document: Any) -> None:
    """`make openapi` writes it. Its difference is what clients will notice."""
    assert document == json.loads(COMMITTED.read_text())


def test_it_is_valid_by_the_schema_of_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_no_answer_of_fastapis_own_is_in_it(document: Any) -> None:
    assert "ValidationError" not in json.dumps(document)


def test_operations_have_short_names(document: Any) -> None:
    """A client that is generated from the document has a function of this name for each operation."""
    assert [operation["operationId"] for _, _, operation in operations(document)] == [
        *("encode", "reconstruct", "score", "create_embeddings", "sample", "decode", "interpolate", "traverse"),
        *("list_models", "get_model", "list_openai_models", "get_openai_model", "get_model_file"),
        *("livez", "readyz", "metrics"),
    ]


@pytest.mark.parametrize("route", VERBS)
def test_every_verb_documents_its_problems(document: Any, route: str) -> None:
    responses = document["paths"][route]["post"]["responses"]
    for status in ("400", "401", "404", "406", "413", "415", "422", "500", "503", "504"):
        assert list(responses[status]["content"]) == ["application/problem+json"]


def test_bytes_are_typed_as_bytes_of_their_media_type(document: Any) -> None:
    checked = 0
    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type, content in ((kind, one) for each in contents for kind, one in each.get("content", {}).items()):
            if media_type.startswith("image/") or media_type in ("application/x-npy", "application/octet-stream"):
                assert content["schema"] == {"type": "string", "format": "binary", "contentMediaType": media_type}
                checked += 1
            elif media_type == "application/x-ndjson":
                schema = dict(content["schema"])
                assert schema.pop("contentSchema")["$ref"].endswith("Line")
                assert schema == {"type": "string", "format": "binary", "contentMediaType": media_type}
            elif media_type.startswith("text/") or media_type == "application/openmetrics-text":
                assert content["schema"] == {"type": "string"}
            else:
                assert list(content["schema"]) in (["$ref"], ["anyOf", "title"])
    bodies = 4 * 7 + 2  # of /encode, /reconstruct, /score, /traverse; /interpolate and /decode take no single picture
    assert checked == bodies + 7 * 2 + 5 + 2  # two of arrays for each verb, pictures from five; files of a model


def test_fields_that_can_be_missing_are_never_null(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name, fields in (
        ("EncodeAnswer", ["z", "seed"]),
        ("ReconstructAnswer", ["z", "seed"]),
        ("ScoreAnswer", ["log_likelihood", "k", "seed"]),
        ("Problem", ["errors"]),
    ):
        for field in fields:
            assert field not in schemas[name]["required"]
            assert schemas[name]["properties"][field]["type"] in ("array", "integer")


class TestExamples:
    def test_every_example_of_a_json_body_succeeds_as_it_stands(self, client: TestClient, document: Any) -> None:
        sent = list(examples(document))
        assert {path for path, *_ in sent} == {*VERBS, "/v1/embeddings"}
        for path, media_type, name, value in sent:
            answer = client.post(path, content=json.dumps(value), headers={"content-type": media_type})
            assert answer.status_code == 200, (path, name, answer.text)

    def test_samples_are_of_the_model_that_was_made_for_them(self, document: Any) -> None:
        sent = {name: value for path, _, name, value in examples(document) if path == "/sample"}
        assert sent["seeded"]["model"] == sent["label"]["model"] == "mnist-sharp"
        assert sent["defaults"] == {}

    def test_they_succeed_with_another_default_model_too(self, start: Callable[..., TestClient]) -> None:
        """tiny has 3 latents, and no labels."""
        client = start()
        for path, media_type, name, value in examples(client.get("/openapi.json").json()):
            answer = client.post(path, content=json.dumps(value), headers={"content-type": media_type})
            assert answer.status_code == 200, (path, name, answer.text)

    @pytest.mark.parametrize("route", WITH_IMAGES)
    def test_a_form_filled_with_the_examples_of_its_fields_succeeds(
        self, client: TestClient, document: Any, route: str
    ) -> None:
        properties = document["components"]["schemas"][f"{WITH_IMAGES[route]}Form"]["properties"]
        fields = {name: schema["examples"][0] for name, schema in properties.items() if "examples" in schema}
        assert set(fields) >= {"model", "preprocess"}
        files = [("images", encoded(digit)) for digit in digits()[: 2 if route == "/interpolate" else 1]]
        answer = client.post(route, files=files, data=fields)
        assert answer.status_code == 200

    @pytest.mark.parametrize("route", WITH_IMAGES)
    def test_every_other_media_type_of_a_body_is_taken(self, client: TestClient, document: Any, route: str) -> None:
        for media_type in document["paths"][route]["post"]["requestBody"]["content"]:
            kind = media_type.partition("/")[2]
            if media_type.startswith("image/"):
                body = encoded(digits()[0], kind.upper())
            elif kind == "x-npy":
                body = npy_bytes(digits()[:2] if route == "/interpolate" else digits()[:1])
            else:
                continue
            assert client.post(route, content=body, headers={"content-type": media_type}).status_code == 200

    @pytest.mark.parametrize("route", ["/models/{name}", "/models/{name}/files/{file}"])
    def test_the_examples_of_parameters_are_found(self, client: TestClient, document: Any, route: str) -> None:
        parameters = document["paths"][route]["get"]["parameters"]
        path = route.format(**{parameter["name"]: parameter["example"] for parameter in parameters})
        assert client.get(path).status_code == 200

    def test_the_picture_is_a_real_digit(self) -> None:
        for picture in (DIGIT, OTHER_DIGIT):
            assert any((decoded(picture) == digit).all() for digit in digits())


class TestOptions:
    """The options of images, in a body and in the query."""

    def test_the_query_and_both_bodies_have_the_same(self, document: Any) -> None:
        for route, schema in WITH_IMAGES.items():
            parameters = document["paths"][route]["post"]["parameters"]
            names = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
            for kind in ("Request", "Form"):
                assert names == set(document["components"]["schemas"][schema + kind]["properties"]) - {"images", "z"}

    def test_none_has_a_default_that_clients_would_send(self, document: Any) -> None:
        """Sent in the body and in the query, one's default would contradict the other's value."""
        for route in WITH_IMAGES:
            for parameter in document["paths"][route]["post"]["parameters"]:
                assert "default" not in parameter["schema"]
                assert "null" not in json.dumps(parameter["schema"])
        for name in (schema + kind for schema in WITH_IMAGES.values() for kind in ("Request", "Form")):
            assert "default" not in str(
                {key for field in document["components"]["schemas"][name]["properties"].values() for key in field}
            )


class TestKeys:
    def test_either_of_two_headers_carries_a_key(self, document: Any) -> None:
        schemes = document["components"]["securitySchemes"]
        assert {name: scheme["type"] for name, scheme in schemes.items()} == {"bearer": "http", "apiKey": "apiKey"}

    def test_what_can_answer_401_says_how_to_send_a_key(self, document: Any) -> None:
        for path, _, operation in operations(document):
            assert ("401" in operation["responses"]) == (path not in OPEN)
            assert ("security" in operation) == (path not in OPEN)

    def test_a_service_with_keys_answers_so(
        self, start: Callable[..., TestClient], tmp_path: Path, document: Any
    ) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        client = start(api_keys_file=tmp_path / "keys")
        for path, method, _ in operations(document):
            path = path.format(name="tiny", file="README.md")
            wanted = 200 if path in OPEN else 401
            assert client.request(method, path).status_code == wanted
            for headers in ({"Authorization": "Bearer sesame"}, {"X-API-Key": "sesame"}):
                assert client.request(method, path, headers=headers).status_code in (200, 415)


class TestHeaders:
    """Every header that is an answer's own is documented, and those that always come do."""

    @staticmethod
    def check(document: Any, path: str, method: str, answer: Any) -> set[str]:
        """The documented headers that the answer has."""
        response = document["paths"][path][method]["responses"][str(answer.status_code)]
        declared = {}
        for name, reference in response["headers"].items():
            declared[name.lower()] = document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        others = ("server-timing", "retry-after", "vary", "content-encoding", "accept-encoding")
        own = {name for name in answer.headers if name.startswith("x-") or name in others}
        assert own <= set(declared), path
        assert {name for name, header in declared.items() if header["required"]} <= set(answer.headers), path
        return set(declared) & set(answer.headers)

    @pytest.mark.parametrize("route", VERBS)
    def test_of_every_media_type(self, client: TestClient, document: Any, route: str) -> None:
        bodies = {
            "/encode": {"images": [base64_png(digits()[0])], "sample": True},
            "/score": {"images": [base64_png(digits()[0])], "k": 2},
            "/sample": {"n": 1},
            "/decode": {"z": [[0.0] * 20]},
            "/interpolate": {"z": [[0.0] * 20, [1.0] * 20]},
            "/traverse": {"z": [[0.0] * 20]},
        }
        body = bodies.get(route, bodies["/encode"])
        seen = set()
        for media_type in document["paths"][route]["post"]["responses"]["200"]["content"]:
            if media_type == "application/x-ndjson":
                line = json.dumps({"image": base64_png(digits()[0])})
                answer = client.post(f"{route}?sample=true", content=line, headers={"content-type": media_type})
            else:
                answer = client.post(route, json=body, headers={"accept": media_type})
            assert answer.headers["content-type"] == media_type
            seen |= self.check(document, route, "post", answer)
        answer = client.post(route, json=body, headers={"accept-encoding": "gzip, identity;q=0"})
        seen |= self.check(document, route, "post", answer)
        declared = document["paths"][route]["post"]["responses"]["200"]["headers"]
        assert seen == {name.lower() for name in declared}

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/models", "/models"),
            ("/models/tiny", "/models/{name}"),
            ("/models/tiny/files/README.md", "/models/{name}/files/{file}"),
        ],
    )
    def test_of_the_models(self, start: Callable[..., TestClient], document: Any, path: str, route: str) -> None:
        self.check(document, route, "get", start().get(path))

    @pytest.mark.parametrize("path", OPEN)
    def test_of_the_probes(self, client: TestClient, document: Any, path: str) -> None:
        answer = client.get(path)
        self.check(document, path, "get", answer)
        types = document["paths"][path]["get"]["responses"]["200"]["content"]
        assert answer.headers["content-type"].partition(";")[0] in types

    def test_of_an_unready_service(self, start: Callable[..., TestClient], document: Any) -> None:
        client = start()
        client.app.state.health.draining = True  # type: ignore[attr-defined]
        assert "retry-after" in self.check(document, "/readyz", "get", client.get("/readyz"))

    def test_of_a_refusal_for_want_of_a_key(
        self, start: Callable[..., TestClient], document: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        client = start(api_keys_file=tmp_path / "keys")
        for path in ("/models", "/sample"):
            method = "get" if path == "/models" else "post"
            assert "www-authenticate" in self.check(document, path, method, client.request(method, path))

    def test_of_a_refusal_for_want_of_room(
        self, client: TestClient, document: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def is_full(*_: object) -> None:
            raise Overloaded("The queue is full.", "queue_full")

        monkeypatch.setattr(Reservation, "hold_images", is_full)
        answer = client.post("/sample", json={})
        assert answer.status_code == 503
        assert "retry-after" in self.check(document, "/sample", "post", answer)
