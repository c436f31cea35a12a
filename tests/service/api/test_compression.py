"""Bodies that come compressed, and answers that are."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import MagicMock

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from harness.codings import PACK, zeros
from harness.connection import Connection
from harness.digits import base64_png, digits, encoded
from service.api import compression
from service.api.answers import Answer
from service.api.compression import accepted, body_codings
from service.api.context import RequestContext
from service.api.request_head import RequestOptions
from service.errors import LimitExceeded, Overloaded
from service.images.codec import npy_bytes
from service.inference.admission import Admission, Reservation
from tests.service.api.in_bytes import BODY, answer, path_of, post

NOISE: Final = np.random.Generator(np.random.PCG64(0)).bytes(700_000)
ALL_CLIENTS: Final = "gzip, deflate, br, zstd"  # what browsers, curl, requests, httpx and openai send
NPY: Final = {"Content-Type": "application/x-npy"}
SKIPPED: Final = struct.pack("<II", 0x184D2A50, 3) + b"abc"  # a skippable frame: RFC 8878, section 3.1.2


def unpack(data: bytes, *codings: str, most: int = 10**6) -> bytes:
    return compression.unpack(data, codings, most, Reservation())


@pytest.mark.parametrize("coding", PACK)
class TestUnpacking:
    @pytest.mark.parametrize("data", [b"", b"x", bytes(1_000_000), NOISE], ids=["nothing", "a byte", "zeros", "noise"])
    def test_any_bytes_come_back(self, coding: str, data: bytes) -> None:
        assert unpack(PACK[coding](data), coding) == data
        assert unpack(compression.pack(data, coding), coding) == data
        assert compression.pack(data, coding) == compression.pack(data, coding)

    @pytest.mark.parametrize("data", [b"{}", NOISE], ids=["short", "long"])
    @pytest.mark.parametrize(
        "damage",
        [lambda data: b"", lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data],
        ids=["nothing", "cut off", "with a byte after it", "with a byte before it"],
    )
    def test_damaged_bytes_are_400(self, coding: str, data: bytes, damage: Callable[[bytes], bytes]) -> None:
        with pytest.raises(HTTPException, match=f"^400: The body (is not|ends before its|goes on after its) {coding}"):
            unpack(damage(PACK[coding](data)), coding)

    def test_memory_is_reserved_for_what_comes_out(self, coding: str) -> None:
        window = 2**23 if coding == "zstd" else 0
        admission = Admission(most_images=1, most_bytes=window + 3_000_000)
        reservation = Reservation(admission)
        assert compression.unpack(PACK[coding](bytes(10**6)), (coding,), 10**7, reservation) == bytes(10**6)
        assert admission.bytes == 10**6
        with pytest.raises(LimitExceeded, match="VAE_MEMORY_BYTES"):
            compression.unpack(PACK[coding](bytes(10**8)), (coding,), 10**8, reservation)
        reservation.release()
        assert admission.bytes == 0
        admission.bytes = window + 2_500_000
        with pytest.raises(Overloaded):
            compression.unpack(PACK[coding](bytes(10**6)), (coding,), 10**7, Reservation(admission))

    def test_layers_come_off_one_by_one_each_within_the_limit(self, coding: str) -> None:
        assert unpack(PACK[coding](gzip.compress(b"hello")), coding, "gzip") == b"hello"
        with pytest.raises(LimitExceeded, match="The body is larger than 1000000 bytes"):
            unpack(PACK[coding](gzip.compress(bytes(10**7))), coding, "gzip")


class TestMembers:
    """RFC 1952, section 2.2, and RFC 8878, section 3: one after another they are their contents, one after another."""

    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_several_are_one_body(self, coding: str) -> None:
        parts = [NOISE, b"", b"hello", bytes(300_000)]
        assert unpack(b"".join(map(PACK[coding], parts)), coding, most=2 * 10**6) == b"".join(parts)

    def test_deflate_has_but_one(self) -> None:
        with pytest.raises(HTTPException, match="400: The body goes on after its deflate"):
            unpack(zlib.compress(b"a") + zlib.compress(b"b"), "deflate")

    def test_skippable_frames_of_zstd_are_skipped(self) -> None:
        assert unpack(SKIPPED + PACK["zstd"](b"a") + SKIPPED + PACK["zstd"](b"b") + SKIPPED, "zstd") == b"ab"

    @pytest.mark.parametrize(
        ("coding", "empty"), [("gzip", PACK["gzip"](b"")), ("zstd", SKIPPED)], ids=["gzip", "zstd"]
    )
    def test_very_many_are_refused(self, coding: str, empty: bytes) -> None:
        assert unpack(empty * 1024, coding) == b""
        with pytest.raises(LimitExceeded, match=f"The body has more than 1024 members or frames of {coding}."):
            unpack(empty * 100_000, coding)


class TestWindows:
    """RFC 9659: in HTTP no frame of zstd needs more than 8 MB of what came before."""

    def test_the_largest_is_taken(self) -> None:
        assert unpack(zeros(9 * 10**6, 23), "zstd", most=10**7) == bytes(9 * 10**6)

    def test_a_larger_one_is_refused(self) -> None:
        with pytest.raises(LimitExceeded, match="The body's zstd needs a window of more than 8388608 bytes"):
            unpack(zeros(10**6, 24), "zstd")


def test_codings_are_undone_from_the_last_one_on() -> None:
    assert body_codings(b"gzip, X-GZIP") == ("gzip", "gzip")
    assert body_codings(b"gzip , , ZSTD") == ("zstd", "gzip")
    assert body_codings(b"identity, deflate") == ("deflate",)
    assert body_codings(b" identity ") == body_codings(b"") == ()


@pytest.mark.parametrize("header", [b"br", b"gzip, br", b"gzip, gzip, gzip", b"*", b"gzip;q=1", b"gzip" + b" " * 9000])
def test_another_coding_is_415_and_the_answer_says_which_there_are(header: bytes) -> None:
    with pytest.raises(HTTPException) as refused:
        body_codings(header)
    assert (refused.value.status_code, refused.value.headers) == (415, {"Accept-Encoding": "zstd, gzip, deflate"})


@pytest.mark.parametrize(
    ("header", "best", "codings", "plain"),
    [
        (b"", None, (), True),
        (b"identity", None, (), True),
        (b"br", None, (), True),
        (b"gzip", "gzip", ("gzip",), True),
        (b"x-GZip", "gzip", ("gzip",), True),
        (b"gzip, deflate, br, zstd", "zstd", ("zstd", "gzip", "deflate"), True),
        (b"gzip;q=1.0, zstd; q=0.9", "gzip", ("zstd", "gzip"), True),
        (b"deflate, gzip;q=0.5, br", "deflate", ("gzip", "deflate"), True),
        (b"gzip;q=0, deflate", "deflate", ("deflate",), True),
        (b"gzip; q=0.000", None, (), True),
        (b"*", "zstd", ("zstd", "gzip", "deflate"), True),
        (b"*;q=0.5, zstd;q=0", "gzip", ("gzip", "deflate"), True),
        (b"identity, gzip;q=0.5", None, ("gzip",), True),
        (b"identity;q=0.5, gzip;q=0.8", "gzip", ("gzip",), True),
        (b"gzip, identity;q=0", "gzip", ("gzip",), False),
        (b"gzip, *;q=0", "gzip", ("gzip",), False),
        (b"*;q=0, identity;q=0.1", None, (), True),
        (b"identity;q=0", None, (), False),
        (b"*;q=0", None, (), False),
        (b"gzip;q=2, deflate;level=1, zstd;q=x", None, (), True),
        (b"gzip," * 5000, None, (), True),
        (b"\xff\x00, ;q=1, gzip", "gzip", ("gzip",), True),
    ],
)
def test_a_client_gets_what_it_accepts(header: bytes, best: str | None, codings: tuple[str, ...], plain: bool) -> None:
    assert accepted(header) == compression.Accepted(codings, best, plain)


@pytest.mark.parametrize(
    ("path", "content", "headers"),
    [
        ("/encode", npy_bytes(digits()[:9]), NPY),
        ("/encode", json.dumps({"images": [base64_png(each) for each in digits()[:3]]}).encode(), {}),
        ("/encode?preprocess=none", encoded(digits()[0]), {"Content-Type": "image/png"}),
        ("/reconstruct", npy_bytes(digits()[:9]), NPY),
        ("/score", npy_bytes(digits()[:9]), NPY),
        ("/sample", b'{"n": 3, "seed": 1}', {}),
        ("/decode", npy_bytes(np.zeros((3, 20), np.float32)), NPY),
        ("/interpolate", npy_bytes(digits()[:2]), NPY),
        ("/traverse", npy_bytes(digits()[:1]), NPY),
        ("/v1/embeddings", b'{"model": "mnist-mlp", "input": ["data:image/png;base64,%b"]}', {}),
    ],
)
def test_every_verb_takes_bodies_in_every_coding(
    client: TestClient, path: str, content: bytes, headers: dict[str, str]
) -> None:
    headers = {"Content-Type": "application/json"} | headers
    content = content.replace(b"%b", base64_png(digits()[0]).encode())
    plain = client.post(path, content=content, headers=headers)
    assert plain.status_code == 200
    for coding, pack in PACK.items():
        packed = client.post(path, content=pack(content), headers=headers | {"Content-Encoding": coding})
        assert (packed.status_code, packed.content) == (200, plain.content)
    twice = gzip.compress(PACK["zstd"](content))
    packed = client.post(path, content=twice, headers=headers | {"Content-Encoding": "zstd, gzip"})
    assert (packed.status_code, packed.content) == (200, plain.content)


@pytest.mark.parametrize("way", ["fast", "asgi"])
def test_bodies_that_cannot_be_unpacked_are_refused_on_both_ways(port: int, way: str) -> None:
    path = "/encode" if way == "fast" else "/%65ncode"
    for coding, body, status in (
        ("gzip", gzip.compress(BODY), 200),
        ("gzip, zstd", PACK["zstd"](gzip.compress(BODY)), 200),
        ("gzip", BODY, 400),
        ("zstd", gzip.compress(BODY), 400),
        ("deflate", zlib.compress(BODY)[:-1], 400),
        ("br", BODY, 415),
        ("zstd", PACK["zstd"](bytes(10**9)), 413),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(10**8))), 413),
    ):
        for _ in range(2):  # the second time the head is known
            with Connection(port) as connection:
                connection.send(post(path, body, Content_Encoding=coding))
                found, headers, _content = answer(connection)
            assert (found, path_of(headers)) == (status, way)
            assert headers.get("accept-encoding") == ("zstd, gzip, deflate" if status == 415 else None)


def test_several_lines_are_one_list(port: int) -> None:
    data = post(body=PACK["zstd"](gzip.compress(BODY)), Content_Encoding="gzip\r\nContent-Encoding: zstd")
    with Connection(port) as connection:
        connection.send(data)
        assert answer(connection)[0] == 200


URIS: Final = [f"data:image/png;base64,{base64_png(each)}" for each in digits()[:64]]
BATCH: Final[dict[str, Any]] = {"content": npy_bytes(digits()[:64]), "headers": NPY}
VERBS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "latents": ("/encode", BATCH),
    "pictures": ("/reconstruct", BATCH),
    "an array": ("/reconstruct", BATCH | {"headers": NPY | {"Accept": "application/x-npy"}}),
    "embeddings": ("/v1/embeddings", {"json": {"model": "mnist-mlp", "input": URIS}}),
}


class TestAnswers:
    @pytest.mark.parametrize("coding", PACK)
    @pytest.mark.parametrize("verb", VERBS)
    def test_long_ones_are_compressed_and_say_the_same(self, client: TestClient, verb: str, coding: str) -> None:
        path, sent = VERBS[verb]
        headers = sent.get("headers", {})
        packed, plain = (
            client.post(path, **sent | {"headers": headers | {"Accept-Encoding": each}}) for each in (coding, "")
        )
        assert packed.headers["content-encoding"] == coding
        assert "content-encoding" not in plain.headers
        assert int(packed.headers["content-length"]) < 0.8 * len(plain.content)
        assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
        assert packed.content == plain.content

    def test_what_would_become_longer_stays_as_it_is(self) -> None:
        found = Answer(NOISE[:5000], b"application/octet-stream", [])
        options = RequestOptions("", answer_coding="gzip", compress_from=4096)
        asyncio.run(compression.pack_answer(found, options, MagicMock(), RequestContext()))
        assert (found.content, found.headers) == (NOISE[:5000], [compression.VARY])

    def test_pictures_are_not_compressed_again(self, client: TestClient) -> None:
        found = client.post("/sample", json={"n": 100}, headers={"Accept": "image/png", "Accept-Encoding": "gzip"})
        assert len(found.content) > 4096
        assert "content-encoding" not in found.headers
        assert "vary" not in found.headers

    @pytest.mark.parametrize("path", ["/encode", "/reconstruct", "/score"])
    def test_those_to_a_single_digit_never_are(self, client: TestClient, path: str) -> None:
        for model in client.get("/models?view=short").json()["models"]:
            asked = {"images": [base64_png(digits()[0])], "preview": True, "model": model["id"]}
            found = client.post(path, json=asked, headers={"Accept-Encoding": ALL_CLIENTS})
            assert found.status_code == 200 or path == "/score"
            assert "content-encoding" not in found.headers

    def test_a_client_that_takes_nothing_else_gets_short_ones_compressed_too(self, client: TestClient) -> None:
        asked = {"images": [base64_png(digits()[0])]}
        for header in ("gzip, identity;q=0", "gzip, *;q=0"):
            found = client.post("/encode", json=asked, headers={"Accept-Encoding": header})
            assert (found.status_code, found.headers["content-encoding"]) == (200, "gzip")
            assert client.get("/livez", headers={"Accept-Encoding": header}).headers["content-encoding"] == "gzip"

    def test_one_that_takes_nothing_of_ours_gets_406(self, client: TestClient) -> None:
        found = client.post("/sample", json={}, headers={"Accept-Encoding": "br, identity;q=0"})
        assert (found.status_code, "content-encoding" in found.headers) == (406, False)
        assert client.get("/livez", headers={"Accept-Encoding": "br, identity;q=0"}).status_code == 200

    def test_the_size_from_which_on_they_are_is_a_setting(self, start: Callable[..., TestClient]) -> None:
        for least, coding in ((10**6, None), (100, "gzip")):
            client = start(compress_from_bytes=least)
            found = client.post("/sample", json={"n": 64}, headers={"Accept-Encoding": "gzip"})
            assert found.headers.get("content-encoding") == coding

    def test_without_memory_for_it_they_stay_as_they_are(self) -> None:
        admission = Admission(most_images=1, most_bytes=100)
        assert compression.has_room(Reservation(admission), bytes(100))
        admission.bytes = 1
        assert not compression.has_room(Reservation(admission), bytes(100))


class TestPages:
    """What is not a verb."""

    @pytest.mark.parametrize("path", ["/models", "/models/mnist-mlp", "/openapi.json", "/metrics", "/v2/models/stats"])
    @pytest.mark.parametrize("coding", PACK)
    def test_long_ones_are_compressed_for_get_and_head(self, client: TestClient, path: str, coding: str) -> None:
        packed, head = (client.request(each, path, headers={"Accept-Encoding": coding}) for each in ("GET", "HEAD"))
        assert packed.headers["content-encoding"] == head.headers["content-encoding"] == coding
        assert packed.headers["vary"] == head.headers["vary"] == "accept-encoding"
        assert int(packed.headers["content-length"]) < 0.6 * len(packed.content)
        assert head.content == b""
        if path != "/metrics":  # which count these requests
            assert packed.headers["content-length"] == head.headers["content-length"]
            plain = client.get(path, headers={"Accept-Encoding": "br"})
            assert "content-encoding" not in plain.headers
            assert plain.headers["vary"] == "accept-encoding"
            assert plain.content == packed.content

    def test_each_coding_has_a_tag_of_its_own_and_all_of_them_give_304(self, client: TestClient) -> None:
        tags = {}
        for coding in ("identity", *PACK):
            tags[coding] = client.get("/models", headers={"Accept-Encoding": coding}).headers["etag"]
            again = client.get("/models", headers={"Accept-Encoding": coding, "If-None-Match": tags[coding]})
            assert (again.status_code, again.headers["etag"]) == (304, tags[coding])
            assert again.headers["vary"] == "accept-encoding"
            assert "content-encoding" not in again.headers
        assert len(set(tags.values())) == 4
        every = client.get("/models", headers={"Accept-Encoding": ALL_CLIENTS, "If-None-Match": tags["gzip"]})
        assert (every.status_code, every.headers["etag"]) == (304, tags["gzip"])
        other = client.get("/models", headers={"Accept-Encoding": "zstd", "If-None-Match": tags["gzip"]})
        assert (other.status_code, other.headers["etag"]) == (200, tags["zstd"])

    def test_files_that_are_pictures_or_numbers_are_sent_as_they_are(self, client: TestClient) -> None:
        for name in ("reconstructions.png", "encoder.onnx"):
            found = client.get(f"/models/mnist-mlp/files/{name}", headers={"Accept-Encoding": ALL_CLIENTS})
            assert (found.status_code, "content-encoding" in found.headers, "vary" in found.headers) == (
                200,
                False,
                False,
            )

    def test_pages_of_other_origins_get_them_too(self, start: Callable[..., TestClient]) -> None:
        client = start(cors_origins="https://here.example")
        headers = {"Origin": "https://here.example", "Accept-Encoding": "gzip"}
        for found in (
            client.get("/openapi.json", headers=headers),
            client.post("/sample", json={"n": 100}, headers=headers),
        ):
            assert found.headers["content-encoding"] == "gzip"
            assert found.headers["vary"] == "accept-encoding, Origin"
            assert found.json()


class TestRealClients:
    def test_a_digit_stays_on_the_fast_path_whatever_codings_its_client_takes(self, port: int) -> None:
        plain, compressed = (
            httpx.post(f"http://127.0.0.1:{port}/encode", content=BODY, headers=headers)
            for headers in (
                {"Content-Type": "application/json", "Accept-Encoding": "identity"},
                {"Content-Type": "application/json", "Accept-Encoding": ALL_CLIENTS},
            )
        )
        assert path_of(dict(compressed.headers)) == path_of(dict(plain.headers)) == "fast"
        assert compressed.content == plain.content
        assert {"vary", "content-encoding"}.isdisjoint(compressed.headers)

    def test_httpx_unpacks_what_it_asked_for_by_itself(self, port: int) -> None:
        url, content = f"http://127.0.0.1:{port}/encode", npy_bytes(digits()[:64])
        by_itself = httpx.post(url, content=content, headers=NPY)
        plain = httpx.post(url, content=content, headers=NPY | {"Accept-Encoding": "identity"})
        assert by_itself.headers["content-encoding"] == "zstd"
        assert by_itself.json() == plain.json()

    def test_curl_does_so_too(self, port: int) -> None:
        assert shutil.which("curl") is not None

        def curl(*options: str) -> bytes:
            command = ["curl", "--silent", "--fail", *options, f"http://127.0.0.1:{port}/openapi.json"]
            return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

        plain = curl()
        assert json.loads(plain)["openapi"]
        head, _, body = curl("--compressed", "--include").partition(b"\r\n\r\n")
        assert b"content-encoding: " in head.lower()
        assert body == plain
