from __future__ import annotations

import pytest

from service.api.head_cache import LONGEST, MOST, HeadCache
from service.api.request_head import RequestHead, make_head

BODY = b'{"images": []}'
HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"14")]


def request(
    *more: tuple[bytes, bytes], path: bytes = b"/encode", colon: bytes = b": ", body: bytes = BODY
) -> tuple[bytes, RequestHead, bytes, list[tuple[bytes, bytes]]]:
    """A request's bytes, and what a parser makes of them."""
    headers = [*HEADERS, *more]
    lines = b"".join(name.title() + colon + value + b"\r\n" for name, value in headers)
    head = make_head(path.decode(), dict(headers), b"")
    return b"POST %b HTTP/1.1\r\n%b\r\n%b" % (path, lines, body), head, path, headers


def test_a_head_is_found_again_with_any_body_of_the_same_length() -> None:
    heads = HeadCache()
    data, head, url, headers = request()
    assert heads.get(data) is None
    heads.add(data, head, url, headers)
    for body in (BODY, b"another body!!", b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n"):
        known = heads.get(request(body=body)[0])
        assert known is not None
        assert known[0] is head
        assert known[1] == body


@pytest.mark.parametrize(
    "other",
    [
        request((b"accept", b"image/png"))[0],
        request(path=b"/decode")[0],
        request()[0].replace(b"Host", b"hOST"),
        request()[0][:-1],
        request()[0] + b"P",
        request()[0] * 2,
        b"\r\n" + request()[0],
        request()[0].partition(b"\r\n\r\n")[0],
        b"",
    ],
    ids=[
        "one more header",
        "another path",
        "another case",
        "a byte less",
        "a byte more",
        "two requests",
        "a line before it",
        "half a head",
        "nothing",
    ],
)
def test_other_data_is_not_found(other: bytes) -> None:
    heads = HeadCache()
    heads.add(*request())
    assert heads.get(other) is None


@pytest.mark.parametrize(
    ("data", "head", "url", "headers"),
    [
        request((b"x-request-id", b"7")),
        request((b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        request((b"x-long", b"x" * LONGEST)),
        request(colon=b":"),
        request(colon=b":  "),
        request(body=BODY + b"POST"),
        (b"\r\n\r\n" + request()[0], *request()[1:]),
        (request()[0].replace(b"\r\n", b"\n"), *request()[1:]),
        (request(path=b"/decode")[0], *request()[1:]),
    ],
    ids=[
        "an id",
        "a trace",
        "a long head",
        "no space",
        "two spaces",
        "the next request's beginning",
        "lines before it",
        "other line ends",
        "not what the parser says",
    ],
)
def test_an_unusual_head_or_one_that_will_not_come_again_is_not_added(
    data: bytes, head: RequestHead, url: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    heads = HeadCache()
    heads.add(data, head, url, headers)
    assert heads.get(data) is None


def test_the_cache_has_a_largest_size() -> None:
    heads = HeadCache()
    different = [request((b"accept", b"%d" % number)) for number in range(3 * MOST)]
    for each in different:
        heads.add(*each)
    known = sum(heads.get(data) is not None for data, *_ in different)
    assert 0 < known <= MOST
