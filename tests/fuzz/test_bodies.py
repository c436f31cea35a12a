"""Hostile bodies over a real socket: JSON, forms and arrays that are malformed or too large."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.codings import PACK
from harness.connection import Answer, request
from harness.digits import base64_png, digits, encoded
from tests.fuzz.target import Target, good_request, is_problem

PICTURE = base64_png(digits()[0]).encode()
PNG = encoded(digits()[0])
MIB = 2**20
LARGE = 16_000_000  # just within the limit on a body
WAYS = pytest.mark.parametrize("way", ["short", "ASGI"])


def ask(
    target: Target, body: bytes, path: str = "/encode", media_type: str = "application/json", way: str = "short"
) -> Answer:
    """The answer to a body, and after it the right answer to the good request on the same connection."""
    path = path if way == "short" else f"/%{ord(path[1]):x}{path[2:]}"
    with target.connect() as connection:
        answer = connection.ask(request(path, body, media_type, b"X-Request-ID: same"))
        assert connection.ask(good_request()).body == target.truth
    return answer


def deep(opening: bytes, closing: bytes, depth: int = 100_000) -> bytes:
    return opening * depth + closing * depth


ZERO = b"[0" + b", 0" * 19 + b"]"

JSON_BODIES: dict[str, tuple[str, bytes, int]] = {
    "nested 100,000 deep": ("/encode", b'{"images": ' + deep(b"[", b"]") + b"}", 400),
    "objects 100,000 deep": ("/encode", deep(b'{"a":', b"}"), 400),
    "never closed": ("/decode", b"[" * LARGE, 413),
    "NaN": ("/decode", b'{"z": [[NaN' + b", 0" * 19 + b"]]}", 422),
    "Infinity": ("/decode", b'{"z": [[-Infinity' + b", 0" * 19 + b"]]}", 422),
    "1e400": ("/decode", b'{"z": [[1e400' + b", 0" * 19 + b"]]}", 422),
    "1e39, beyond float32": ("/decode", b'{"z": [[1e39' + b", 0" * 19 + b"]]}", 422),
    "NaN in a walk": ("/interpolate", b'{"z": [' + ZERO + b", [NaN" + b", 0" * 19 + b"]]}", 422),
    "a walk beyond float32": ("/interpolate", b'{"z": [[1e39' + b", 0" * 19 + b"], " + ZERO + b"]}", 422),
    "a walk of 4,300 digits": (
        "/interpolate",
        b'{"z": [' + ZERO + b"," + ZERO + b"," + ZERO + b'], "steps": ' + b"9" * 4_300 + b"}",
        413,
    ),
    "a traversal of 4,300 digits": ("/traverse", b'{"z": [' + ZERO + b'], "steps": ' + b"9" * 4_300 + b"}", 413),
    "a latent's index of 4,300 digits": ("/traverse", b'{"z": [' + ZERO + b'], "dims": [' + b"9" * 4_300 + b"]}", 422),
    "a range that is infinite": ("/traverse", b'{"z": [' + ZERO + b'], "range": [-1e400, 1e400]}', 422),
    "a range of NaN": ("/traverse", b'{"z": [' + ZERO + b'], "range": [NaN, 1]}', 422),
    "millions of indices": ("/traverse", b'{"z": [' + ZERO + b'], "dims": [' + b"1," * (LARGE // 2 - 99) + b"1]}", 413),
    "indices without end": ("/traverse", b'{"z": [' + ZERO + b'], "dims": [' + b"1," * 65_000 + b"1]}", 422),
    "both images and z": ("/traverse", b'{"z": [' + ZERO + b'], "images": ["' + PICTURE + b'"]}', 422),
    "millions of points": ("/interpolate", b'{"z": [' + b"[]," * (LARGE // 3 - 9) + b"[]]}", 413),
    "a temperature of 1e400": ("/sample", b'{"temperature": 1e400}', 422),
    "a temperature of NaN": ("/sample", b'{"temperature": NaN}', 422),
    "a seed of 2^53": ("/sample", b'{"seed": 9007199254740992}', 422),
    "a seed of 4,300 digits": ("/sample", b'{"seed": ' + b"9" * 4_300 + b"}", 422),
    "a seed of a million digits": ("/sample", b'{"seed": ' + b"9" * 1_000_000 + b"}", 400),
    "a count of 4,300 digits": ("/sample", b'{"n": ' + b"9" * 4_300 + b"}", 413),
    "a label of 4,300 digits": ("/sample", b'{"label": ' + b"9" * 4_300 + b"}", 404),
    "a lone surrogate": ("/sample", b'{"model": "\\ud800"}', 400),
    "surrogates the wrong way round": ("/sample", b'{"\\udc00\\ud800": 1}', 400),
    "a NUL in a name": ("/sample", b'{"model": "mnist\\u0000mlp"}', 404),
    "bytes that are not UTF-8": ("/sample", b'{"model": "\xff"}', 400),
    "UTF-16": ("/sample", '{"n": 1}'.encode("utf-16"), 400),
    "UTF-8 with a byte order mark": ("/sample", b"\xef\xbb\xbf{}", 400),
    "two documents": ("/sample", b"{}{}", 400),
    "a key twice": ("/sample", b'{"n": 1, "n": 2}', 200),
    "a comment": ("/sample", b"{/**/}", 400),
    "an image that is a URL": ("/encode", b'{"images": ["http://169.254.169.254/latest"]}', 422),
    "an image that is a file": ("/encode", b'{"images": ["file:///etc/passwd"]}', 422),
    "an image that is a picture's name": ("/encode", b'{"images": ["tests/data/digit.png"]}', 422),
    "more images than allowed": ("/encode", b'{"images": [' + b'"",' * 2_000 + b'""]}', 413),
    "millions of images": ("/encode", b'{"images": [' + b'"",' * (LARGE // 3) + b'""]}', 413),
    "millions of numbers for images": ("/encode", b'{"images": [' + b"1," * (LARGE // 2 - 9) + b"1]}", 413),
    "millions of lists for images": ("/encode", b'{"images": [' + b"[]," * (LARGE // 3 - 9) + b"[]]}", 413),
    "millions of objects for a number": ("/sample", b'{"n": [' + b"{}," * (LARGE // 3 - 9) + b"{}]}", 413),
    "millions of empty latents": ("/decode", b'{"z": [' + b"[]," * (LARGE // 3 - 9) + b"[]]}", 413),
    "one latent of millions": ("/decode", b'{"z": [[' + b"1," * (LARGE // 2 - 9) + b"1]]}", 413),
    "a million unknown fields": ("/sample", json.dumps({str(n): 0 for n in range(1_000_000)}).encode(), 413),
    "unknown fields": ("/sample", json.dumps({str(n): 0 for n in range(50_000)}).encode(), 422),
    "a base64 of 16 MB": ("/encode", b'{"images": ["' + b"A" * (LARGE - 40) + b'"]}', 422),
    "a name of 16 MB": (
        "/encode",
        b'{"images": ["' + PICTURE + b'"], "model": "' + b"m" * (LARGE - 2_000) + b'"}',
        422,
    ),
    "a field's name of 16 MB": ("/sample", b'{"' + b"n" * (LARGE - 100) + b'": 1}', 422),
}


@WAYS
@pytest.mark.parametrize(("path", "body", "status"), JSON_BODIES.values(), ids=JSON_BODIES)
def test_a_json_body_gets_the_status_it_should(target: Target, way: str, path: str, body: bytes, status: int) -> None:
    with target.works_at_most(1):
        answer = ask(target, body, path, way=way)
    assert answer.status == status, answer.body[:200]
    if status != 200:
        is_problem(answer)
        assert len(answer.body) < 10_000


def part(name: bytes, value: bytes = b"1", *lines: bytes) -> bytes:
    head = [b'--b\r\nContent-Disposition: form-data; name="' + name + b'"', *lines, b"", value]
    return b"\r\n".join(head) + b"\r\n"


def picture_part(*lines: bytes, data: bytes = PNG) -> bytes:
    return part(b'images"; filename="p', data, *lines)


END = b"--b--\r\n"
FORM = "multipart/form-data; boundary=b"
NESTED = b"--c\r\nContent-Disposition: form-data; name=images\r\n\r\n" + PNG + b"\r\n--c--\r\n"

FORMS: dict[str, tuple[str, bytes, int]] = {
    "no boundary": ("multipart/form-data", picture_part() + END, 400),
    "an empty boundary": ("multipart/form-data; boundary=", picture_part() + END, 400),
    "a boundary of 10,000 bytes": (f"multipart/form-data; boundary={'b' * 10_000}", picture_part() + END, 400),
    "a boundary that is never found": (FORM, b"-" * LARGE, 400),
    "line ends without end": (FORM, b"\r\n" * (LARGE // 2), 400),
    "boundaries that nearly are": (FORM, b"--b\r\n\r\n" + b"\r\n--" * (LARGE // 4 - 9) + END, 400),
    "a preamble of 16 MB": (FORM, b"x" * (LARGE - 1_000) + picture_part() + END, 400),
    "a part without a name": (FORM, b"--b\r\n\r\nvalue\r\n" + END, 400),
    "a part with a name that is not UTF-8": (FORM, part(b"\xff\xfe") + picture_part() + END, 422),
    "headers without end": (FORM, b"--b\r\n" + b"X: y\r\n" * 100_000 + b"\r\n" + END, 400),
    "a header of 1 MB": (FORM, b"--b\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n" + END, 400),
    "hundreds of thousands of fields": (FORM, part(b"a") * 200_000 + END, 422),
    "hundreds of thousands of other fields": (FORM, b"".join(part(b"%d" % n) for n in range(200_000)) + END, 422),
    "hundreds of thousands of pictures": (FORM, picture_part(data=b"") * 180_000 + END, 413),
    "pictures that are fields": (FORM, part(b"images", PNG) + END, 200),
    "a form within a form": (FORM, part(b"images", NESTED, b"Content-Type: multipart/mixed; boundary=c") + END, 422),
    "a transfer encoding nobody knows": (FORM, picture_part(b"Content-Transfer-Encoding: rot13") + END, 400),
    "not base64": (FORM, picture_part(b"Content-Transfer-Encoding: base64", data=b"%%%%") + END, 422),
    "base64 that stops midway": (FORM, picture_part(b"Content-Transfer-Encoding: base64", data=b"aGVsb") + END, 400),
    "a file in another field": (FORM, part(b'model"; filename="p', b"mnist-mlp") + picture_part() + END, 422),
    "a field twice": (FORM, part(b"seed") * 2 + picture_part() + END, 422),
    "words after the end": (FORM, picture_part() + END + b"words" * 1_000, 200),
}


@WAYS
@pytest.mark.parametrize(("media_type", "body", "status"), FORMS.values(), ids=FORMS)
def test_a_form_gets_the_status_it_should(target: Target, way: str, media_type: str, body: bytes, status: int) -> None:
    with target.works_at_most(1):
        answer = ask(target, body, media_type=media_type, way=way)
    assert answer.status == status, answer.body[:200]
    if status != 200:
        is_problem(answer)
        assert len(answer.body) < 10_000


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def u1(shape: str) -> str:
    return f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"


HUGE = "0x" + "f" * 9_000  # an integer that takes more digits than Python writes

ARRAYS: dict[str, tuple[bytes, int]] = {
    "a shape beyond all memory": (npy(u1("(99999999999, 28, 28)")), 422),
    "a shape with a number too long to write": (npy(u1(f"({HUGE}, 28, 28)"), bytes(784)), 422),
    "an empty array too large for an address": (npy(u1("(0, 9223372036854775807, 28)")), 422),
    "an empty array of a size too long to write": (npy(u1(f"(0, {HUGE}, 28)")), 422),
    "negative sizes": (npy(u1("(-1, -28, 28)"), bytes(784)), 422),
    "sizes that are truths": (npy(u1("(True, 28, 28)"), bytes(784)), 422),
    "no images": (npy(u1("(0, 28, 28)")), 422),
    "objects": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 28, 28), }", b"cos\nsystem\n."), 422),
    "a structure": (
        npy("{'descr': [('a', '|u1', (28, 28))], 'fortran_order': False, 'shape': (1,), }", bytes(784)),
        422,
    ),
    "strings": (npy("{'descr': '|S999999999', 'fortran_order': False, 'shape': (1,), }"), 422),
    "code": (npy("__import__('os').abort()"), 422),
    "signs without end": (npy("-" * 9_000 + "1"), 422),
    "sums without end": (npy("1" + "+1" * 4_000), 422),
    "brackets without end": (npy("(" * 9_000), 422),
    "a header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1_000), 422),
    "a header of 16 MB": (npy(" " * (LARGE - 1_000), version=2), 422),
    "version 3": (npy(u1("(1, 28, 28)"), bytes(784), version=3), 422),
    "more than allowed": (npy(u1("(20000, 28, 28)"), bytes(20_000 * 784)), 413),
    "one pixel": (npy(u1("(1, 1, 1)"), b"\7"), 200),
    "one very wide image": (npy(u1("(1, 1, 15000000)"), bytes(15_000_000)), 200),
}


@WAYS
@pytest.mark.parametrize(("body", "status"), ARRAYS.values(), ids=ARRAYS)
def test_an_array_gets_the_status_it_should(target: Target, way: str, body: bytes, status: int) -> None:
    answer = ask(target, body, media_type="application/x-npy", way=way)
    assert answer.status == status, answer.body[:200]
    if status != 200:
        is_problem(answer)
        assert len(answer.body) < 10_000


@WAYS
@pytest.mark.parametrize(
    "query", ["?" + "a&" * 4_000, "?" + "&".join(f"a{n}=1" for n in range(1_000)), "?seed=" + "9" * 5_000]
)
def test_a_long_query_takes_little_work(target: Target, way: str, query: str) -> None:
    with target.works_at_most(1):
        answer = ask(target, PNG, f"/encode{query}", "image/png", way)
    is_problem(answer)
    assert len(answer.body) < 10_000


@WAYS
@given(coding=st.sampled_from(sorted(PACK)), at=st.integers(0, 10**6), put=st.binary(max_size=8), cut=st.integers(0, 8))
def test_a_compressed_body_that_is_damaged_is_refused_or_means_the_same(
    shared_target: Target, way: str, coding: str, at: int, put: bytes, cut: int
) -> None:
    body = PACK[coding](good_request().partition(b"\r\n\r\n")[2])
    at %= len(body)
    path = "/encode" if way == "short" else "/%65ncode"
    data = request(
        path, body[:at] + put + body[at + cut :], "application/json", b"Content-Encoding: " + coding.encode()
    )
    with shared_target.connect() as connection:
        answer = connection.ask(data)
    if answer.status == 200:
        assert answer.json.keys() == {"model", "mu", "logvar"}
    else:
        is_problem(answer)


@WAYS
@pytest.mark.parametrize("coding", PACK)
def test_a_bomb_takes_little_work(target: Target, way: str, coding: str) -> None:
    bomb = PACK[coding](bytes(10**8))
    path = "/encode" if way == "short" else "/%65ncode"
    with target.works_at_most(1), target.connect() as connection:
        answer = connection.ask(request(path, bomb, "application/json", b"Content-Encoding: " + coding.encode()))
    is_problem(answer)
    assert answer.status == 413


class TestMemory:
    """At default settings a body may need 512 MiB for as long as it is read.

    Up to 128 MiB of that may stay with the process, but no more of it the second time.
    """

    PEAK = 512 * MIB
    LEFT = 128 * MIB
    LEFT_AGAIN = 32 * MIB

    def test_bodies_grow_the_process_within_its_bounds(
        self, start: Callable[..., Target], subtests: pytest.Subtests
    ) -> None:
        target = start()
        target.is_well()
        before = target.memory()
        bodies = {name: (path, "application/json", body) for name, (path, body, _) in JSON_BODIES.items()}
        bodies |= {name: ("/encode", media_type, body) for name, (media_type, body, _) in FORMS.items()}
        left = []
        for _ in range(2):
            for name, (path, media_type, body) in bodies.items():
                with subtests.test(name):
                    target.forget_peak()
                    ask(target, body, path, media_type)
                    assert target.memory("VmHWM") - before < self.PEAK
            left.append(target.memory())
        assert left[0] - before < self.LEFT
        assert left[1] - left[0] < self.LEFT_AGAIN
