"""Request bodies of every media type, and the errors that are found before an image is decoded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

from harness.digits import base64_png, digits, encoded
from service.api.answers import negotiate
from service.api.request_head import _media_type
from service.images.codec import npy_bytes

PNG = encoded(digits()[0])
JSON_BODY = json.dumps({"images": [base64_png(digits()[0])]}).encode()
VERBS = ["/encode", "/reconstruct", "/score", "/sample", "/decode", "/interpolate", "/traverse"]


def post(client: TestClient, content: bytes, media_type: str, route: str = "/encode", **params: Any) -> Any:
    return client.post(route, content=content, headers={"content-type": media_type}, params=params)


def test_verbs_of_a_mounted_application_give_the_same_answers(start: Callable[..., TestClient]) -> None:
    """FastAPI's router passes them on. Answers and errors are the same, byte for byte."""
    app: Any = start().app
    outer = Starlette(routes=[Mount("/vae", app)], lifespan=app.router.lifespan_context)
    with TestClient(app) as direct, TestClient(outer) as mounted:
        for body in ({"n": 2, "seed": 1}, {"n": 0}):
            sent = {"x-request-id": "same"}
            here = direct.post("/sample", json=body, headers=sent)
            there = mounted.post("/vae/sample", json=body, headers=sent)
            assert (here.status_code, here.content) == (there.status_code, there.content)
            assert there.headers.get_list("x-request-id") == ["same"]


class TestMediaTypes:
    @pytest.mark.parametrize("route", VERBS)
    @pytest.mark.parametrize(
        "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "image/avif", "json"]
    )
    def test_another_media_type_is_415_and_the_answer_lists_the_right_ones(
        self, client: TestClient, route: str, media_type: str
    ) -> None:
        answer = post(client, JSON_BODY, media_type, route)
        assert answer.status_code == 415
        assert "application/json" in answer.json()["detail"]

    @pytest.mark.parametrize("route", ["/sample", "/decode"])
    def test_verbs_without_pictures_take_no_picture(self, client: TestClient, route: str) -> None:
        assert post(client, PNG, "image/png", route).status_code == 415

    @pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
    def test_parameters_and_case_do_not_matter(self, client: TestClient, media_type: str) -> None:
        assert post(client, JSON_BODY, media_type).status_code == 200

    @pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp"])
    def test_raw_pictures_of_each_kind_are_taken(self, client: TestClient, kind: str) -> None:
        assert post(client, encoded(digits()[0], kind.upper()), f"image/{kind}").status_code == 200


class TestJson:
    @pytest.mark.parametrize("text", [b"", b"{", b"[1,", b"\xff", b'{"images": [}', b"nonsense"])
    @pytest.mark.parametrize("route", VERBS)
    def test_invalid_json_is_400(self, client: TestClient, route: str, text: bytes) -> None:
        answer = post(client, text, "application/json", route)
        assert answer.status_code == 400
        assert "not JSON" in answer.json()["detail"]

    @pytest.mark.parametrize("text", [b"[]", b"null", b"7", b'"images"'])
    def test_json_other_than_an_object_is_422(self, client: TestClient, text: bytes) -> None:
        assert post(client, text, "application/json").status_code == 422

    @pytest.mark.parametrize(
        ("change", "pointers"),
        [
            ({"images": []}, ["/images"]),
            ({"images": "abc"}, ["/images"]),
            ({"images": ["ok", 1, 2]}, ["/images/1"]),
            ({"image": "abc"}, ["/image"]),
            ({"a/b~c": 1}, ["/a~1b~0c"]),
            ({"preprocess": "crop"}, ["/preprocess"]),
            ({"sample": "yes"}, ["/sample"]),
            ({"seed": 1.5}, ["/seed"]),
            ({"seed": -1}, ["/seed"]),
            ({"model": ["mnist-mlp"]}, ["/model"]),
        ],
    )
    def test_a_bad_field_is_named(self, client: TestClient, change: dict[str, Any], pointers: list[str]) -> None:
        answer = client.post("/encode", json=json.loads(JSON_BODY) | change)
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == pointers


class TestBodyAndQuery:
    """Options of JSON and multipart bodies can be in the body or in the query."""

    @staticmethod
    def ask(client: TestClient, form: str, query: str, **options: Any) -> Any:
        """Send a digit with these options in a JSON or a multipart body."""
        if form == "json":
            return client.post(f"/encode?{query}", json=json.loads(JSON_BODY) | options)
        fields = {name: str(value).lower() for name, value in options.items()}
        return client.post(f"/encode?{query}", files=[("images", ("0.png", PNG))], data=fields)

    @pytest.mark.parametrize("form", ["json", "multipart"])
    @pytest.mark.parametrize(
        ("query", "body"),
        [
            ("sample=true&seed=4", {}),
            ("sample=true", {"seed": 4}),
            ("seed=4&model=mnist-mlp@2", {"sample": True, "preprocess": "resize"}),
            ("sample=true&seed=4", {"sample": True, "seed": 4}),
            ("sample=1&seed=04", {"sample": True, "seed": 4}),
        ],
    )
    def test_an_option_can_be_in_either_or_the_same_in_both(
        self, client: TestClient, form: str, query: str, body: dict[str, Any]
    ) -> None:
        expected = client.post("/encode", json=json.loads(JSON_BODY) | {"sample": True, "seed": 4})
        answer = self.ask(client, form, query, **body)
        assert answer.status_code == 200, answer.text
        assert answer.content == expected.content

    @pytest.mark.parametrize("form", ["json", "multipart"])
    @pytest.mark.parametrize(
        ("query", "body", "pointers"),
        [
            ("sample=true", {"sample": False}, ["/sample"]),
            ("preprocess=resize", {"preprocess": "none"}, ["/preprocess"]),
            ("model=mnist-mlp", {"model": "mnist-mlp@2"}, ["/model"]),
            ("seed=1&sample=true&model=mnist-mlp", {"seed": 2, "sample": False}, ["/sample", "/seed"]),
        ],
    )
    def test_a_contradiction_is_422_and_names_the_options(
        self, client: TestClient, form: str, query: str, body: dict[str, Any], pointers: list[str]
    ) -> None:
        answer = self.ask(client, form, query, **body)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"pointer": pointer, "detail": "The query and the body give different values."} for pointer in pointers
        ]

    def test_null_in_json_leaves_the_option_to_the_query(self, client: TestClient) -> None:
        answer = self.ask(client, "json", "seed=4&sample=true&model=mnist-mlp@1", seed=None, model=None)
        assert (answer.json()["seed"], answer.json()["model"]) == (4, "mnist-mlp@1")

    @pytest.mark.parametrize("form", ["json", "multipart"])
    @pytest.mark.parametrize(
        ("query", "pointer"),
        [("seed=x", "/seed"), ("colour=red", "/colour"), ("seed=1&seed=1", "/seed"), ("images=abc", "/images")],
    )
    def test_a_bad_query_is_422(self, client: TestClient, form: str, query: str, pointer: str) -> None:
        answer = self.ask(client, form, query)
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]

    @pytest.mark.parametrize(("route", "body"), [("/sample", {}), ("/decode", {"z": [[0.0] * 20]})])
    def test_another_option_in_the_query_is_422(self, client: TestClient, route: str, body: dict[str, Any]) -> None:
        answer = client.post(f"{route}?seed=1", json=body)
        assert answer.status_code == 422
        assert [item["pointer"] for item in answer.json()["errors"]] == ["/seed"]


class TestRawBodies:
    def test_options_come_in_the_query(self, client: TestClient) -> None:
        answer = post(client, PNG, "image/png", sample="true", seed="4", preprocess="none", model="mnist-mlp@2")
        expected = client.post("/encode", json=json.loads(JSON_BODY) | {"sample": True, "seed": 4})
        assert answer.json() == expected.json()

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [("seed=x", "/seed"), ("colour=red", "/colour"), ("seed=1&seed=2", "/seed"), ("images=abc", "/images")],
    )
    def test_bad_options_are_named(self, client: TestClient, query: str, pointer: str) -> None:
        answer = client.post(f"/encode?{query}", content=PNG, headers={"content-type": "image/png"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer

    def test_bytes_that_are_not_a_picture_are_named_as_image_0(self, client: TestClient) -> None:
        answer = post(client, b"not a picture", "image/png")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/images/0"

    def test_the_kind_of_a_picture_is_found_from_its_bytes(self, client: TestClient) -> None:
        assert post(client, PNG, "image/jpeg").content == post(client, PNG, "image/png").content


class TestMultipart:
    def test_pictures_are_a_repeated_field_and_options_are_fields(self, client: TestClient) -> None:
        files = [("images", (f"{index}.png", encoded(digits()[index]))) for index in range(3)]
        answer = client.post("/encode", files=files, data={"sample": "true", "seed": "2"})
        expected = {"images": [base64_png(digit) for digit in digits()[:3]], "sample": True, "seed": 2}
        assert answer.json() == client.post("/encode", json=expected).json()

    @pytest.mark.parametrize(
        ("data", "pointer"), [({"seed": "x"}, "/seed"), ({"seed": ["1", "2"]}, "/seed"), ({"colour": "red"}, "/colour")]
    )
    def test_bad_fields_are_named(self, client: TestClient, data: Any, pointer: str) -> None:
        answer = client.post("/encode", files=[("images", ("0.png", PNG))], data=data)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer

    def test_a_picture_in_another_field_is_422(self, client: TestClient) -> None:
        answer = client.post("/encode", files=[("images", ("0.png", PNG)), ("image", ("1.png", PNG))])
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"pointer": "/image", "detail": "Pictures belong into the field images."}]

    def test_a_form_without_pictures_is_422(self, client: TestClient) -> None:
        answer = client.post("/encode", files={"seed": (None, "1")})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/images"

    def test_a_body_that_ends_early_is_400(self, client: TestClient) -> None:
        whole = client.build_request("POST", "/encode", files=[("images", ("0.png", PNG)), ("images", ("1.png", PNG))])
        body = whole.read()
        for length in (0, 10, len(body) // 2, len(body) - len(PNG), len(body) - 6):
            answer = post(client, body[:length], whole.headers["content-type"])
            assert answer.status_code == 400, length

    @pytest.mark.parametrize("media_type", ["multipart/form-data", "multipart/form-data; boundary=other"])
    def test_a_wrong_boundary_is_400(self, client: TestClient, media_type: str) -> None:
        body = client.build_request("POST", "/encode", files=[("images", ("0.png", PNG))]).read()
        assert post(client, body, media_type).status_code == 400

    def test_large_pictures_are_not_written_to_disk(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_disk(*_: object, **__: object) -> None:
            raise OSError("Read-only file system")

        monkeypatch.setattr("tempfile.NamedTemporaryFile", no_disk)
        monkeypatch.setattr("tempfile.TemporaryFile", no_disk)
        noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2000, 2000), np.uint8)
        answer = client.post("/encode", files=[("images", ("0.png", encoded(noise)))])
        assert answer.status_code == 200


class TestLimits:
    def test_a_body_whose_content_length_is_over_the_limit_is_413(self, start: Callable[..., TestClient]) -> None:
        client = start(max_body_bytes=100)
        assert post(client, b" " * 100, "application/json").status_code == 400  # read, and found not to be JSON
        answer = post(client, b" " * 101, "application/json")
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The body is larger than 100 bytes."

    @pytest.mark.parametrize(("digits", "status"), [(b"2", 200), (b"101", 413), (b"9" * 5_000, 413)])
    def test_a_content_length_may_have_thousands_of_leading_zeros(
        self, start: Callable[..., TestClient], digits: bytes, status: int
    ) -> None:
        headers = {"content-type": "application/json", "content-length": "0" * 5_000 + digits.decode()}
        assert start(max_body_bytes=100).post("/sample", content=b"{}", headers=headers).status_code == status

    def test_a_body_of_unknown_length_is_413_as_soon_as_it_is_too_long(self, start: Callable[..., TestClient]) -> None:
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(50):
                sent += 10
                yield b" " * 10

        answer = start(max_body_bytes=100).post("/encode", content=endless(), headers={"content-type": "image/png"})
        assert answer.status_code == 413

    @pytest.mark.parametrize("form", ["json", "multipart", "npy"])
    def test_more_images_than_the_limit_are_413(self, start: Callable[..., TestClient], form: str) -> None:
        client = start(max_batch=2)
        picture = encoded(np.zeros((6, 4), np.uint8))
        answers: dict[str, Callable[[int], Any]] = {
            "json": lambda n: client.post("/encode", json={"images": [base64_png(np.zeros((6, 4), np.uint8))] * n}),
            "multipart": lambda n: client.post("/encode", files=[("images", ("i.png", picture))] * n),
            "npy": lambda n: post(client, npy_bytes(np.zeros((n, 6, 4), np.uint8)), "application/x-npy"),
        }
        assert answers[form](2).status_code == 200
        answer = answers[form](3)
        assert answer.status_code == 413
        assert answer.json()["errors"] == [
            {"pointer": "/images", "detail": "3 items in one request; at most 2 are allowed."}
        ]

    def test_more_pixels_than_the_limit_are_413(self, start: Callable[..., TestClient]) -> None:
        client = start(max_pixels=48)
        picture = base64_png(np.zeros((6, 4), np.uint8))
        assert client.post("/encode", json={"images": [picture] * 2}).status_code == 200
        answer = client.post("/encode", json={"images": [picture] * 3})
        assert answer.status_code == 413
        assert answer.json()["errors"][0]["pointer"] == "/images"


class TestLongTexts:
    """Headers and queries are cached and parsed, so their length has a limit."""

    @pytest.mark.parametrize("name", ["accept", "content-type"])
    def test_a_header_that_is_too_long_is_400_and_not_cached(self, client: TestClient, name: str) -> None:
        before = negotiate.cache_info().currsize, _media_type.cache_info().currsize
        headers = {"content-type": "application/json", name: "application/json;" + "a" * 10_000}
        answer = client.post("/sample", content=b"{}", headers=headers)
        assert answer.status_code == 400
        assert "longer than 8192 bytes" in answer.json()["detail"]
        after = negotiate.cache_info().currsize, _media_type.cache_info().currsize
        assert sum(after) - sum(before) <= 2  # those of the shorter headers

    def test_a_query_that_is_too_long_is_400(self, client: TestClient) -> None:
        answer = post(client, PNG, "image/png", seed="1" * 10_000)
        assert answer.status_code == 400


class TestManyFaults:
    """A request with a hundred thousand faults gets a short answer."""

    MANY = 100_000

    @staticmethod
    def refused(answer: Any) -> int:
        assert len(answer.content) < 20_000
        status: int = answer.status_code
        return status

    def test_unknown_fields(self, client: TestClient) -> None:
        fields = {str(number): 0 for number in range(self.MANY)}
        assert self.refused(client.post("/sample", json=fields)) == 422

    def test_indices_of_latents_and_ranges(self, client: TestClient) -> None:
        values: tuple[object, ...] = (-1, 1, 1.5, [])
        for name in ("dims", "range"):
            for value in values:
                answer = client.post("/traverse", json={"z": [[0.0] * 20], name: [value] * 50_000})
                assert self.refused(answer) == 422

    @pytest.mark.parametrize("dims", ["3," * 4_000_000 + "3", "9" * 8_000_000, "-1," * 50_000 + "-1", "," * MANY])
    def test_indices_of_latents_in_a_form(self, client: TestClient, dims: str) -> None:
        answer = client.post("/traverse", files=[("images", PNG)], data={"dims": dims})
        assert self.refused(answer) == 422
        assert answer.json()["errors"][0]["pointer"].startswith("/dims")

    def test_a_field_name_of_a_million_letters(self, client: TestClient) -> None:
        answer = client.post("/sample", json={"n" * 1_000_000: 0})
        assert self.refused(answer) == 422
        assert answer.json()["errors"][0]["pointer"] == "/" + "n" * 100

    @pytest.mark.parametrize("name", ["a", "a{}"], ids=["one name", "many names"])
    def test_fields_of_a_form(self, client: TestClient, name: str) -> None:
        part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n1\r\n'
        body = "".join(part.format(number) for number in range(self.MANY)) + "--b--\r\n"
        assert self.refused(post(client, body.encode(), "multipart/form-data; boundary=b")) == 422

    def test_pictures_of_a_form(self, client: TestClient) -> None:
        part = b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\n\r\n'
        answer = post(client, part * self.MANY + b"--b--\r\n", "multipart/form-data; boundary=b")
        assert self.refused(answer) == 413

    @pytest.mark.parametrize("media_type", ["image/png", "application/json", "multipart/form-data; boundary=b"])
    def test_query_parameters(self, client: TestClient, media_type: str) -> None:
        query = "a&" * 4_000
        answer = client.post(f"/encode?{query}", content=PNG, headers={"content-type": media_type})
        assert self.refused(answer) == 422

    @pytest.mark.parametrize(
        ("route", "body"),
        [
            ("/encode", b'{"images": [' + b"[]," * 2**17 + b"[]]}"),
            ("/encode", b'{"images": [' + b'"",' * 2**16 + b'""]}'),
            ("/sample", b'{"n": [' + b"{}," * 2**17 + b"{}]}"),
            ("/decode", b'{"z": [' + b"[]," * 2**16 + b"[]]}"),
            ("/decode", b'{"z": [[' + b"1," * 2**20 + b"1]]}"),
            ("/interpolate", b'{"z": [' + b"[]," * 2**16 + b"[]]}"),
            ("/interpolate", b'{"images": [' + b'"",' * 2**16 + b'""]}'),
            ("/traverse", b'{"z": [[' + b"1," * 2**20 + b"1]]}"),
        ],
    )
    def test_json_with_too_many_values_is_413(self, client: TestClient, route: str, body: bytes) -> None:
        assert self.refused(post(client, body, "application/json", route)) == 413


class TestBadItems:
    def test_bad_images_are_named_and_nothing_is_computed(self, client: TestClient) -> None:
        good = base64_png(digits()[0])
        answer = client.post("/reconstruct", json={"images": [good, "%", good, "aGVsbG8="]})
        assert answer.status_code == 422
        assert answer.headers["server-timing"] == "queue;dur=0.000, compute;dur=0.000"
        assert {item["pointer"] for item in answer.json()["errors"]} <= {"/images/1", "/images/3"}
        assert "images" not in answer.json()

    def test_preprocess_none_with_another_size_is_422(self, client: TestClient) -> None:
        body = {"images": [base64_png(np.zeros((27, 28), np.uint8))], "preprocess": "none"}
        answer = client.post("/encode", json=body)
        assert answer.status_code == 422
        assert "28x27 L, not 28x28 L" in answer.json()["errors"][0]["detail"]

    def test_preprocess_digit_finds_a_drawing(self, client: TestClient) -> None:
        page = np.full((300, 300), 255, np.uint8)
        page[50:218, 100:268] = 255 - np.kron(digits()[0], np.ones((6, 6), np.uint8))
        found = client.post("/encode", json={"images": [base64_png(page)], "preprocess": "digit"}).json()["mu"]
        plain = client.post("/encode", json={"images": [base64_png(digits()[0])]}).json()["mu"]
        squashed = client.post("/encode", json={"images": [base64_png(page)], "preprocess": "resize"}).json()["mu"]
        assert np.abs(np.subtract(found, plain)).max() < np.abs(np.subtract(squashed, plain)).max() / 4
