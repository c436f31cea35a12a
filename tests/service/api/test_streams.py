"""Streams: NDJSON or a multipart form of any length, answered line by line."""

from __future__ import annotations

import gc
import gzip
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from harness.connection import Connection, request
from harness.digits import base64_png, digits, encoded
from harness.servers import wait_for
from harness.streams import FORM, FORM_END, NDJSON, Stream, part
from service.api import stream_groups
from service.api.answer_schemas import EncodeLine, ReconstructLine
from service.api.stream_groups import StreamForm

TEXTS = [base64_png(digit) for digit in digits()]
MANY = (TEXTS * 2)[:300]  # more than a group
HEADERS = {"content-type": NDJSON}


def line(image: str, **others: str) -> bytes:
    return json.dumps({"image": image} | others).encode() + b"\n"


def lines_of(client: TestClient, body: bytes, path: str = "/encode", **headers: str) -> list[Any]:
    """The lines of the answer to a stream."""
    answer = client.post(path, content=body, headers=HEADERS | headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(each) for each in answer.text.splitlines()]


def columns(lines: list[Any], *names: str) -> list[list[Any]]:
    return [[each[name] for each in lines] for name in names]


class TestAnswers:
    @pytest.mark.parametrize("options", ["", "sample=true&seed=7"], ids=["means", "draws"])
    def test_the_lines_say_what_a_batch_says(self, client: TestClient, options: str) -> None:
        body = b"".join(map(line, MANY))
        batch = client.post(f"/encode?{options}", json={"images": MANY}).json()
        found = lines_of(client, body, f"/encode?{options}")
        names = [name for name in ("mu", "logvar", "z") if name in batch]
        assert columns(found, "line", *names) == [list(range(1, 301)), *(batch[name] for name in names)]
        EncodeLine.model_validate(found[0])
        batch = client.post(f"/reconstruct?{options}", json={"images": MANY}).json()
        found = lines_of(client, body, f"/reconstruct?{options}")
        assert columns(found, "image", *names, "mse") == [batch[name] for name in ("images", *names, "mse")]
        ReconstructLine.model_validate(found[0])

    @pytest.mark.parametrize("size", [1, 100, 5_000, 10**6])
    def test_they_are_the_same_whatever_the_pieces(self, client: TestClient, port: int, size: int) -> None:
        body = b"".join(map(line, MANY[: 2 if size == 1 else None]))
        wanted = lines_of(client, body, "/encode?sample=true&seed=3")
        with Stream(port, "/encode?sample=true&seed=3") as stream:
            stream.send_all(body[start : start + size] for start in range(0, len(body), size))
            assert list(stream.lines()) == wanted

    def test_the_head_says_model_and_seed(self, client: TestClient) -> None:
        answer = client.post("/encode?sample=true", content=line(TEXTS[0]), headers=HEADERS)
        assert answer.headers["x-model"] == "mnist-mlp@2"
        again = client.post(
            f"/encode?sample=true&seed={answer.headers['x-seed']}", content=line(TEXTS[0]), headers=HEADERS
        )
        assert again.text == answer.text

    def test_an_id_comes_back(self, client: TestClient) -> None:
        found = lines_of(client, line(TEXTS[0], id="seven") + line(TEXTS[1]) + line("no picture", id="ï/ü"))
        assert [each.get("id") for each in found] == ["seven", None, "ï/ü"]

    def test_empty_lines_are_counted_and_not_answered(self, client: TestClient) -> None:
        body = b"\n" + line(TEXTS[0]) + b" \r\n\n" + line(TEXTS[1]).replace(b"\n", b"\r\n") + line(TEXTS[2]).strip()
        assert columns(lines_of(client, body), "line") == [[2, 5, 6]]
        assert lines_of(client, b"") == lines_of(client, b"\n\n") == []

    @pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["one at a time", "together"])
    def test_pictures_of_any_kind_are_prepared_as_in_a_batch(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch, seconds: float
    ) -> None:
        monkeypatch.setattr(stream_groups, "_SLICE", seconds)
        photo = np.full((60, 60), 230, np.uint8)
        photo[16:44, 16:44] -= digits()[3] // 2
        texts = [base64_png(photo), TEXTS[3], base64_png(photo)]
        batch = client.post("/encode", json={"images": texts, "preview": True}).json()
        found = lines_of(client, b"".join(map(line, texts)), "/encode?preview=true")
        assert columns(found, "mu", "preview") == [batch["mu"], batch["preview"]]
        assert [each.get("found") for each in found] == batch["found"]

    @pytest.mark.parametrize("name", ["application/ndjson", "application/jsonl", "Application/X-NDJSON; charset=utf-8"])
    def test_other_names_of_the_media_type(self, client: TestClient, name: str) -> None:
        answer = client.post("/encode", content=line(TEXTS[0]), headers={"content-type": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, NDJSON)


class TestForms:
    def test_a_multipart_form_is_a_stream_for_who_wants_lines(self, client: TestClient) -> None:
        files = [("images", (f"{number}.png", encoded(digit))) for number, digit in enumerate(digits()[:150])]
        batch = client.post("/encode", files=files).json()
        answer = client.post("/encode", files=files, headers={"accept": f"{NDJSON}, application/json;q=0.5"})
        found = [json.loads(each) for each in answer.text.splitlines()]
        assert columns(found, "line", "mu") == [list(range(1, 151)), batch["mu"]]
        assert [each["id"] for each in found] == [f"{number}.png" for number in range(150)]
        assert list(client.post("/encode", files=files, headers={"accept": "*/*"}).json()) == ["model", "mu", "logvar"]

    @pytest.mark.parametrize("size", [1, 77, 100_000])
    def test_it_may_come_in_any_pieces(self, port: int, size: int) -> None:
        body = b"".join(part(encoded(digit)) for digit in digits()[:3]) + part(b"no picture") + FORM_END
        with Stream(port, headers=FORM) as stream:
            stream.send_all(body[start : start + size] for start in range(0, len(body), size))
            found = list(stream.lines())
        assert [each.get("error", {}).get("status") for each in found] == [None, None, None, 422]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmnist-mlp\r\n--b--\r\n', 422),
            (b"no form", 400),
            (b"", 400),
        ],
        ids=["an option", "no form", "nothing"],
    )
    def test_what_is_no_form_of_pictures_is_refused(self, client: TestClient, body: bytes, status: int) -> None:
        answer = client.post("/encode", content=body, headers=FORM)
        assert (answer.status_code, answer.json()["status"]) == (status, status)

    def test_without_a_boundary_it_is_no_form(self, client: TestClient) -> None:
        headers = {"content-type": "multipart/form-data", "accept": NDJSON}
        assert client.post("/encode", content=b"", headers=headers).status_code == 400


class TestBadLines:
    @pytest.mark.parametrize(
        ("bad", "status", "pointer", "detail"),
        [
            (b"{", 400, None, "The line is not JSON."),
            (b'"text"', 422, "", "should be an object"),
            (b"{}", 422, "/image", "Field required"),
            (b'{"image": 1}', 422, "/image", "valid string"),
            (b'{"image": "", "seed": 1}', 422, "/seed", "Extra inputs"),
            (b'{"image": "?"}', 422, "/image", "Not base64."),
            (b'{"image": "aGVsbG8="}', 422, "/image", "Not a picture"),
            (b'{"image": "\xff"}', 400, None, "The line is not JSON."),
            (line(TEXTS[0], id="x" * 257).strip(), 422, "/id", "at most 256"),
        ],
    )
    def test_a_bad_line_fails_alone(
        self, client: TestClient, bad: bytes, status: int, pointer: str | None, detail: str
    ) -> None:
        good = client.post("/encode", json={"images": TEXTS[:3]}).json()
        body = line(TEXTS[0]) + line(TEXTS[1]) + bad + b"\n" + line(TEXTS[2])
        before, second, failed, after = lines_of(client, body)
        assert [before["mu"], second["mu"], after["mu"]] == good["mu"]
        assert (failed["line"], failed["error"]["status"]) == (3, status)
        if pointer is None:
            assert detail in failed["error"]["detail"]
        else:
            (fault,) = failed["error"]["errors"]
            assert fault["pointer"] == pointer
            assert detail in fault["detail"]

    def test_bad_lines_have_their_part_of_the_noise(self, client: TestClient) -> None:
        """So what a line draws depends on the seed and on its place alone."""
        with_bad = lines_of(client, line("?") + line(TEXTS[1]), "/encode?sample=true&seed=5")
        without = lines_of(client, line(TEXTS[0]) + line(TEXTS[1]), "/encode?sample=true&seed=5")
        assert with_bad[1] == without[1]

    def test_a_line_that_is_too_long_fails_alone(self, start: Callable[..., TestClient]) -> None:
        client = start(max_body_bytes=100_000)
        good = line(base64_png(np.zeros((6, 4), np.uint8)))
        for long in (line("A" * 100_000), line("A" * 10**6)):
            found = lines_of(client, good + long + good)
            assert [each.get("error", {}).get("status") for each in found] == [None, 413, None]
            assert found[1]["error"]["detail"] == "The line is larger than 100000 bytes."
        form = part(b"A" * 100_001) + part(encoded(np.zeros((6, 4), np.uint8))) + FORM_END
        found = [json.loads(each) for each in client.post("/encode", content=form, headers=FORM).text.splitlines()]
        assert found[0]["error"]["detail"] == "The part is larger than 100000 bytes."
        assert "mu" in found[1]

    def test_limits_are_those_of_one_picture(self, start: Callable[..., TestClient]) -> None:
        client = start(max_pixels=100)
        small, large = (base64_png(np.zeros(shape, np.uint8)) for shape in ((9, 9), (11, 11)))
        found = lines_of(client, (line(small) * 5) + line(large) + line(small))
        assert [each.get("error", {}).get("status") for each in found] == [None] * 5 + [413, None]
        assert found[5]["error"]["errors"][0]["pointer"] == "/image"

    def test_little_room_is_no_reason_to_fail(self, start: Callable[..., TestClient]) -> None:
        client = start(queue=1, memory_bytes=2**20, max_batch=3)
        body = line(base64_png(np.zeros((6, 4), np.uint8))) * 50
        assert all("mu" in each for each in lines_of(client, body))


class TestRefusals:
    """What the head says is checked before the body is asked for."""

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/encode?model=nobody", {}, 404),
            ("/encode?seed=-1", {}, 422),
            ("/encode?images=x", {}, 422),
            ("/encode", {"Accept": "application/json"}, 406),
            ("/encode", {"X-Request-Timeout-Ms": "0"}, 400),
            ("/encode", {"Content-Encoding": "br"}, 415),
            ("/encode", {"Content-Encoding": "gzip, gzip"}, 415),
            ("/score", {}, 415),
            ("/sample", {}, 415),
        ],
    )
    def test_of_a_head(self, port: int, path: str, headers: dict[str, str], status: int) -> None:
        with Stream(port, path, {"Expect": "100-continue"} | headers) as stream:
            answer = stream.connection.answer()
            assert answer is not None
            assert (answer.status, answer.json["status"]) == (status, status)

    def test_of_http_1_0(self, port: int) -> None:
        with Connection(port) as connection:
            connection.send(request("/encode", line(TEXTS[0]), NDJSON).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = connection.answer()
            assert answer is not None
            assert (answer.status, answer.json["detail"]) == (505, "A stream needs HTTP/1.1: its answer has no length.")

    def test_of_a_client_without_a_key(self, start: Callable[..., TestClient], tmp_path: Any) -> None:
        (tmp_path / "keys").write_text("sesame\n")
        client = start(api_keys_file=tmp_path / "keys")
        assert client.post("/encode", content=b"", headers=HEADERS).status_code == 401
        assert client.post("/encode", content=b"", headers=HEADERS | {"x-api-key": "sesame"}).status_code == 200


class TestConnections:
    def test_lines_are_answered_while_the_request_still_arrives(self, port: int) -> None:
        with Stream(port) as stream:
            answers: Iterator[Any] = stream.lines()
            for number, text in enumerate(TEXTS[:5], 1):
                stream.send(line(text))
                assert next(answers)["line"] == number
            stream.end()
            assert list(answers) == []

    def test_a_client_that_waits_to_be_asked_is_asked(self, port: int) -> None:
        with Stream(port, headers={"Expect": "100-continue"}) as stream:
            assert stream.connection.stream.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert stream.connection.stream.readline() == b"\r\n"
            stream.send(line(TEXTS[0]))
            stream.end()
            assert len(list(stream.lines())) == 1

    @pytest.mark.parametrize("path", ["/encode", "/%65ncode"])
    def test_the_connection_is_kept(self, port: int, path: str) -> None:
        with Connection(port) as connection:
            for _ in range(2):
                stream = Stream(connection, path)
                stream.send(*map(line, TEXTS[:3]))
                stream.end()
                assert len(list(stream.lines())) == 3
                answer = connection.ask(request("/encode", line(TEXTS[0]).replace(b'"image"', b'"images"')))
                assert answer.status == 422

    def test_a_client_that_sends_no_more_gets_all_of_its_answer(self, port: int) -> None:
        with Stream(port) as stream:
            stream.send(*map(line, MANY))
            stream.end()
            stream.socket.shutdown(socket.SHUT_WR)
            assert len(list(stream.lines())) == 300

    def test_requests_behind_a_stream_are_answered_after_it(self, port: int) -> None:
        with Connection(port) as connection:
            stream = Stream(connection)
            stream.send(line(TEXTS[0]))
            stream.end()
            connection.send(request("/livez", None, "", b"Connection: close", method="GET"))
            data = connection.stream.read()
        assert data.count(b"HTTP/1.1 200 OK") == 2
        assert data.index(b'{"line":1,') < data.index(b'{"live":true')

    def test_a_body_of_known_length_is_a_stream_too(self, port: int) -> None:
        with Connection(port) as connection:
            for _ in range(2):
                connection.send(request("/encode", b"".join(map(line, TEXTS[:20])), NDJSON))
                answer = http.client.HTTPResponse(connection.socket)
                answer.begin()
                assert len(answer.read().splitlines()) == 20

    @pytest.mark.parametrize(
        ("rest", "whole", "detail"),
        [
            (b"--b\r\nnonsense\r\n\r\n" + b"x" * 100, 2, "The body is not multipart/form-data"),
            (b"", 1, "The multipart body ends before its closing boundary."),
        ],
        ids=["broken", "without its end"],
    )
    def test_a_form_that_breaks_is_answered_up_to_there_and_cut(
        self, port: int, rest: bytes, whole: int, detail: str
    ) -> None:
        with Stream(port, headers=FORM) as stream:
            stream.send(*(part(encoded(digit)) for digit in digits()[:2]), rest or b"\r\n")
            stream.end()
            answers = stream.lines()
            assert [next(answers)["line"] for _ in range(whole)] == list(range(1, whole + 1))
            last = next(answers)
            assert list(last) == ["error"]
            assert (last["error"]["status"], last["error"]["detail"][: len(detail)]) == (400, detail)
            with pytest.raises(http.client.IncompleteRead):
                next(answers)

    def test_without_a_connection_of_our_own_the_last_line_says_so(self, client: TestClient) -> None:
        """An ASGI server closes the connection of an answer that its application does not complete."""
        answer = client.post("/encode", content=part(encoded(digits()[0])), headers=FORM)
        assert answer.status_code == 400
        body = part(encoded(digits()[0])) * 200
        answer = client.post("/encode", content=body, headers=FORM)
        assert list(json.loads(answer.text.splitlines()[-1])) == ["error"]


def test_nothing_of_a_stream_is_left_to_the_garbage_collector(port: int) -> None:
    packed = {"Content-Encoding": "gzip"}
    bodies: list[tuple[bytes, Mapping[str, str]]] = [
        (b"".join(map(line, MANY)), {}),
        (gzip.compress(line(TEXTS[0])), packed),
        (gzip.compress(line(TEXTS[0])) + b"damage", packed),
        (line("?") + b"{\n", {}),
        (part(encoded(digits()[0])) * 3 + b"--b\r\nnonsense\r\n", FORM),
        (b"no form", FORM),
    ]
    gc.collect()
    gc.disable()
    try:
        for body, headers in bodies:
            with Stream(port, headers=headers) as stream, suppress(http.client.IncompleteRead):
                stream.send_all([body])
                for _ in stream.pieces():
                    pass
        wait_for(lambda: not any(isinstance(each, StreamForm) for each in gc.get_objects()))
    finally:
        gc.enable()


def test_a_page_of_another_origin_may_send_a_stream(start: Callable[..., TestClient]) -> None:
    client = start(cors_origins="https://page.example")
    body = line(base64_png(np.zeros((6, 4), np.uint8)))
    answer = client.post("/encode", content=body, headers=HEADERS | {"origin": "https://page.example"})
    assert "mu" in answer.json()
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_a_stream_is_one_request_and_its_images_count(start_server: Callable[..., int]) -> None:
    port = start_server()
    with Stream(port) as stream:
        stream.send_all(map(line, MANY))
        assert len(list(stream.lines())) == 300
    with Connection(port) as connection:
        text = connection.ask(request("/metrics", None, method="GET")).body.decode()
    counted = re.findall(r'^vae_images_total\{.*verb="encode"\} (.*)$', text, re.MULTILINE)
    asked = re.findall(r'^vae_requests_total\{.*route="/encode",status="200"\} (.*)$', text, re.MULTILINE)
    assert (counted, asked) == (["300.0"], ["1.0"])
