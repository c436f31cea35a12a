from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.framing import Framing

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Parser:
    """A parser that tells a framing what a real one would, for requests without a body."""

    def __init__(self) -> None:
        self.framing = Framing()
        self.seen = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            end = self.framing.cut(data, start)
            piece = data[start:end]
            yield piece
            self.seen += piece
            if self.framing.between and piece.strip(b"\r\n"):
                self.framing.message_begin()
            if self.framing.in_head and self.seen.endswith(b"\r\n\r\n"):
                self.framing.headers_complete(0)
                self.framing.message_complete()
            start = end


@given(st.lists(st.integers(1, 3 * len(HEAD)), max_size=30))
def test_no_piece_reaches_into_the_next_request_however_the_reads_are_split(sizes: list[int]) -> None:
    data, parser, start = HEAD * 20, Parser(), 0
    for size in [*sizes, len(data)]:
        for piece in parser.pieces(data[start : start + size]):
            assert b"\r\n\r\nGET" not in parser.seen[-3:] + piece
        start += size
    assert parser.seen == data


def test_each_byte_of_a_head_is_counted() -> None:
    parser = Parser()
    for byte in HEAD[:-1]:
        list(parser.pieces(bytes([byte])))
    assert parser.framing.excess() == len(HEAD) - 1
    list(parser.pieces(HEAD[-1:] + HEAD[:5]))
    assert parser.framing.excess() == 5


def test_a_body_of_known_length_is_cut_at_its_end() -> None:
    framing = Framing()
    framing.message_begin()
    framing.headers_complete(10)
    data = b"x" * 10 + HEAD
    assert framing.cut(data, 0) == 10
    assert framing.left == 0


@pytest.mark.parametrize(
    ("chunk", "bounded"),
    [(b"1\r\nx\r\n", True), (b"400\r\n" + b"x" * 1024 + b"\r\n", True), (b"1;" + b"e" * 300 + b"\r\nx\r\n", False)],
    ids=["one byte", "a kilobyte", "long extensions"],
)
def test_in_a_chunked_body_what_is_not_body_may_only_be_its_framing(chunk: bytes, bounded: bool) -> None:
    framing = Framing()
    framing.message_begin()
    framing.headers_complete(None)
    for _ in range(1000):
        start = 0
        while start < len(chunk):
            start = framing.cut(chunk, start)
        framing.body(chunk.count(b"x"))
    assert (framing.excess() <= 0) == bounded


def test_trailers_are_counted() -> None:
    framing = Framing()
    framing.message_begin()
    framing.headers_complete(None)
    framing.cut(b"0\r\n", 0)
    for _ in range(1000):
        framing.cut(b"X-1: y\r\n", 0)
    assert framing.excess() == 3 + 8000
