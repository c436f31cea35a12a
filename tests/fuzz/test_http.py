"""Requests that are hostile as HTTP, written byte by byte to a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from harness.connection import request
from harness.digits import base64_png, digits
from tests.fuzz.target import Target, good_request, is_problem

VERBS = ("/encode", "/reconstruct", "/score", "/sample", "/decode", "/interpolate", "/traverse")
BODY = json.dumps({"images": [base64_png(digits()[1])]}).encode()
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"  # the request that an attacker tries to smuggle in


def framed(*lines: bytes, body: bytes = b"", path: str = "/encode") -> bytes:
    """A POST with framing of the test's own."""
    return request(path, None, "", b"Content-Type: application/json", *lines) + body


def chunked(*chunks: bytes) -> bytes:
    return framed(b"Transfer-Encoding: chunked", body=b"".join(chunks))


AMBIGUOUS = {
    "a length and chunks": framed(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunks and a length": framed(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
    "two lengths": framed(b"Content-Length: 2", b"Content-Length: 40", body=b"{}" + HIDDEN),
    "two lengths, alike": framed(b"Content-Length: 2", b"Content-Length: 2", body=b"{}" + HIDDEN),
    "two lengths in one": framed(b"Content-Length: 2, 40", body=b"{}" + HIDDEN),
    "a negative length": framed(b"Content-Length: -1", body=HIDDEN),
    "a length with a sign": framed(b"Content-Length: +2", body=b"{}" + HIDDEN),
    "a length in hexadecimal": framed(b"Content-Length: 0x2", body=b"{}" + HIDDEN),
    "a length that is no number": framed(b"Content-Length: two", body=b"{}" + HIDDEN),
    "a length beyond 64 bits": framed(b"Content-Length: 18446744073709551618", body=b"{}" + HIDDEN),
    "chunks, twice over": framed(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
    "chunks by another name": framed(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunks behind a space": framed(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
    "a chunk of no size": chunked(b"zz\r\n", HIDDEN),
    "a chunk of negative size": chunked(b"-1\r\n", HIDDEN),
    "a chunk beyond 64 bits": chunked(b"fffffffffffffffff\r\n", HIDDEN),
    "a chunk longer than its size": chunked(b"2\r\n{}x\r\n0\r\n\r\n", HIDDEN),
    "a chunk without its end": chunked(b"2\r\n{}0\r\n\r\n", HIDDEN),
    "a chunk's size alone on \\n": chunked(b"2\n{}\r\n0\r\n\r\n", HIDDEN),
    "a folded header": framed(b"X-Long: a\r\n b", b"Content-Length: 2", body=b"{}" + HIDDEN),
    "a header without a name": framed(b": value", body=HIDDEN),
    "a header without a colon": framed(b"nonsense", body=HIDDEN),
    "a NUL in a header": framed(b"X-Nul: a\0b", body=HIDDEN),
    "a NUL in a header's name": framed(b"X-\0: ab", body=HIDDEN),
    "a bare CR in a header": framed(b"X-Cr: a\rb", body=HIDDEN),
}

NONSENSE = {
    "HTTP/9.9": b"GET /livez HTTP/9.9\r\n\r\n",
    "no method": b" /livez HTTP/1.1\r\n\r\n",
    "an unknown method": b"BREW /encode HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method in small letters": b"post /encode HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path without a slash": b"GET livez HTTP/1.1\r\n\r\n",
    "a NUL in the path": b"GET /live\0z HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "zeros": bytes(1000),
    "line ends": b"\r\n" * 1000 + b"x\r\n\r\n",
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_whose_end_is_ambiguous_is_the_last_of_its_connection(target: Target, data: bytes) -> None:
    """What a proxy in front may have taken for its body is never answered as a request."""
    with target.connect() as connection:
        connection.send(data)
        answers = connection.answers()
    assert len(answers) <= 1
    assert all(answer.status in (400, 501) for answer in answers)


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_what_is_not_http_is_closed(target: Target, data: bytes) -> None:
    with target.connect() as connection:
        connection.send(data)
        assert all(400 <= answer.status < 500 for answer in connection.answers())


@pytest.mark.parametrize("path", VERBS)
def test_garbage_behind_a_good_request_is_never_a_request(target: Target, path: str) -> None:
    with target.connect() as connection:
        connection.send(request(path, BODY) + b"\0garbage\r\n\r\n" + HIDDEN)
        assert len(connection.answers()) <= 2


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/models/%00",
        "/models/%ff%fe",
        "/models/..%2f..%2fetc%2fpasswd",
        "/models/" + "a" * 5_000,
        "//",
        "/%",
    ],
)
@pytest.mark.parametrize("line", [b"Host: " + b"h" * 5_000, b"Host: [::1%25eth0]:80", b"Host: a_b.example:", b"X: y"])
@pytest.mark.parametrize("query", ["", "?%ff", "?a=b&c", "?" + "&" * 100])
def test_a_path_that_leads_nowhere_is_a_problem(target: Target, path: str, query: str, line: bytes) -> None:
    with target.connect() as connection:
        data = request(path + query, None, "", line, method="GET")
        answer = connection.ask(data.replace(b"Host: localhost\r\n", b"") if line.startswith(b"Host") else data)
    is_problem(answer)
    assert answer.status == 404


@pytest.mark.parametrize("host", [b"[", b"a b", b"a/b", b"a@b", b"a:b", b"[::1", b"a%zz", b"\xff"])
@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/encode"])
def test_a_host_that_is_none_is_refused(target: Target, path: str, host: bytes) -> None:
    with target.connect() as connection:
        answer = connection.ask(request(path, None).replace(b"Host: localhost", b"Host: " + host))
    is_problem(answer)
    assert answer.status == 400


@pytest.mark.parametrize("target_form", [b"/nowhere?\xff", b"/\xff", b"http://[/encode", b"http://a:b@c/nowhere", b"*"])
def test_a_malformed_request_target_is_refused(target: Target, target_form: bytes) -> None:
    with target.connect() as connection:
        answer = connection.ask(b"GET " + target_form + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status in (400, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND"])
@pytest.mark.parametrize("path", [*VERBS, "/models", "/livez"])
def test_another_method_is_told_which_are_allowed(target: Target, method: str, path: str) -> None:
    allowed = "OPTIONS, POST" if path in VERBS else "GET, HEAD, OPTIONS"
    with target.connect() as connection:
        connection.send(request(path, None, "", b"Connection: close", method=method))
        if method == "HEAD":
            status = b"405" if path in VERBS else b"200"
            head, _, content = connection.stream.read().partition(b"\r\n\r\n")
            assert (head[:12], content) == (b"HTTP/1.1 " + status, b"")
            return
        (answer,) = connection.answers()
    if method == "OPTIONS":
        assert (answer.status, answer.headers["allow"], answer.body) == (200, allowed, b"")
    elif method not in allowed:
        is_problem(answer)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


def absurd_values() -> Iterator[bytes]:
    yield from (
        b"",
        b" ",
        b",",
        b";",
        b"=",
        b"/",
        b"*",
        b"*/*;q=",
        b";;;;=;=",
        b'"',
        b"\\",
        b"'",
        b"\xff\xfe\x80",
        b"%00",
    )
    yield from (b"*/*;q=nan", b"*/*;q=inf", b"*/*;q=-1", b"*/*;q=1e400", b"*/*;q=1_0", b"*/*;q=" + b"9" * 5_000)
    yield from (b"a" * 10_000, b"," * 10_000, b";" * 10_000, b'"' * 10_000, b"*/*," * 2_500, b"a=b;" * 2_500)
    yield b"multipart/form-data; boundary=" + b"-" * 10_000
    yield b"application/json" + b'; a="' * 2_000
    yield b"application/json; charset=utf-7"
    yield b"image/png, " * 500 + b"*/*;q=0"


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
@pytest.mark.parametrize("name", [b"Accept", b"X-Request-ID", b"Content-Encoding", b"Expect", b"Cookie", b"Origin"])
def test_absurd_headers_break_neither_the_service_nor_its_answer(target: Target, name: bytes, path: str) -> None:
    for value in absurd_values():
        with target.connect() as connection:
            answer = connection.ask(request(path, BODY, "application/json", name + b": " + value))
            if answer.status != 200:
                is_problem(answer)
            assert (
                answer.headers["x-request-id"] == value.decode("latin-1") or len(answer.headers["x-request-id"]) == 32
            )
            assert connection.ask(good_request()).body == target.truth


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
def test_absurd_media_types_are_refused(target: Target, path: str) -> None:
    for value in absurd_values():
        with target.connect() as connection:
            answer = connection.ask(request(path, BODY, value))
            if answer.status != 200:
                is_problem(answer)
            assert connection.ask(good_request()).body == target.truth


@pytest.mark.parametrize("path", ["/encode", "/%65ncode"], ids=["the fast path", "through ASGI"])
def test_a_length_written_with_thousands_of_zeros_is_a_length(target: Target, path: str) -> None:
    with target.connect() as connection:
        connection.send(framed(b"Content-Length: " + b"0" * 5_000 + b"%d" % len(BODY), body=BODY, path=path))
        answer = connection.answer()
    assert answer is not None
    assert answer.status in (200, 400)


def test_a_flood_of_headers_is_answered_or_refused(target: Target) -> None:
    with target.connect() as connection:
        answer = connection.ask(request("/encode", BODY, "application/json", *[b"X-%d: y" % n for n in range(10_000)]))
    assert answer.status in (200, 431)


def test_requests_sent_in_part_keep_nobody_else_waiting(target: Target) -> None:
    whole = good_request()
    with ExitStack() as stack:
        for length in (1, 10, 40, 60, len(whole) // 2, len(whole) - 1) * 10:
            stack.enter_context(target.connect()).send(whole[:length])
        for path in ("/encode", "/%65ncode"):
            for _ in range(10):
                stack.enter_context(target.connect()).send(request(path, b"x" * 100_000)[:50_000])
        target.is_well()


@pytest.mark.parametrize("name", [b"Accept", b"Content-Type"])
def test_headers_of_a_megabyte_are_not_kept(target: Target, name: bytes) -> None:
    target.is_well()
    before = target.memory()
    for number in range(100):
        with target.connect() as connection:
            value = b"application/json; a%d=" % number + b"x" * 1_000_000
            lines = [b"Content-Type: application/json"] if name == b"Accept" else []
            data = request("/sample", None, "", *lines, b"Content-Length: 2", name + b": " + value) + b"{}"
            assert 400 <= connection.ask(data).status < 500
    assert target.memory() - before < 32 * 2**20


@pytest.mark.parametrize(
    "line", [b"GET /livez?" + b"a" * 10_000_000, b"GET /livez HTTP/1.1\r\nX: " + b"a" * 10_000_000]
)
def test_a_head_of_ten_megabytes_is_refused_as_it_comes(target: Target, line: bytes) -> None:
    with target.connect() as connection:
        connection.send(line)  # and no end of it: a server that waits for more never answers
        answer = connection.answer()
        assert answer is None or answer.status in (400, 414, 431)


def test_a_good_request_is_answered_before_the_garbage_behind_it(target: Target) -> None:
    with target.connect() as connection:
        connection.send(good_request() + b"\0garbage\r\n\r\n")
        assert [answer.status for answer in connection.answers()] == [200, 400]  # and then the connection is closed


def test_no_answer_redirects_to_a_host_that_the_client_named(target: Target) -> None:
    with target.connect() as connection:
        answer = connection.ask(b"GET /models/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    is_problem(answer)
    assert "location" not in answer.headers


def test_an_upgrade_that_is_not_supported_is_answered(target: Target) -> None:
    for protocol in (b"h2c", b"websocket", b"nonsense"):
        with target.connect() as connection:
            lines = (b"Connection: Upgrade, close", b"Upgrade: " + protocol)
            answer = connection.ask(request("/encode", BODY, "application/json", *lines))
            assert answer.status < 500
