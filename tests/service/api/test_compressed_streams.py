"""Streams whose body is compressed."""

from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from harness.codings import PACK
from harness.digits import base64_png, digits, encoded
from harness.streams import FORM, FORM_END, Stream, part
from service.api.compression import PIECE_BYTES

LINES = [json.dumps({"image": base64_png(digit)}).encode() + b"\n" for digit in digits()]
LONG = b"".join(LINES * 7)[: PIECE_BYTES * 2]  # its end is a piece's end


def said(port: int, coding: str, pieces: list[bytes], **headers: str) -> list[Any]:
    """The lines of the answer to a compressed stream."""
    with Stream(port, headers=headers | {"Content-Encoding": coding}) as stream:
        stream.send_all(pieces)
        return list(stream.lines())


@pytest.mark.parametrize("coding", PACK)
class TestAnswers:
    @pytest.mark.parametrize("size", [1, 1000, 10**6])
    def test_they_are_those_of_the_same_body_uncompressed(self, port: int, coding: str, size: int) -> None:
        body = b"".join(LINES[:2]) if size == 1 else LONG
        packed = PACK[coding](body)
        with Stream(port) as stream:
            stream.send_all([body])
            wanted = list(stream.lines())
        assert said(port, coding, [packed[at : at + size] for at in range(0, len(packed), size)]) == wanted

    def test_a_form_may_be_compressed_too(self, port: int, coding: str) -> None:
        packed = PACK[coding](b"".join(part(encoded(digit)) for digit in digits()[:3]) + FORM_END)
        assert [each["line"] for each in said(port, coding, [packed], **FORM)] == [1, 2, 3]

    def test_an_empty_body_has_no_lines(self, port: int, coding: str) -> None:
        assert said(port, coding, [PACK[coding](b"")]) == []

    def test_a_line_that_unpacks_too_long_fails_alone(self, start_server: Callable[..., int], coding: str) -> None:
        port = start_server(max_body_bytes=100_000)
        found = said(port, coding, [PACK[coding](LINES[0] + bytes(5_000_000) + b"\n" + LINES[1])])
        assert [each.get("error", {}).get("detail") for each in found] == [
            None,
            "The line is larger than 100000 bytes.",
            None,
        ]

    @pytest.mark.parametrize("damage", ["cut off", "goes on"])
    def test_damage_ends_it_after_the_lines_before(self, port: int, coding: str, damage: str) -> None:
        packed = PACK[coding](b"".join(LINES * 7))
        packed = packed[:-1] if damage == "cut off" else packed + b"damage"
        found: list[Any] = []
        with Stream(port, headers={"Content-Encoding": coding}) as stream:
            stream.send_all([packed])
            with pytest.raises(http.client.IncompleteRead):
                found.extend(stream.lines())
        *lines, last = found
        assert [each["line"] for each in lines] == list(range(1, len(lines) + 1))
        assert (list(last), last["error"]["status"]) == (["error"], 400)
        assert len(lines) > 0

    def test_what_is_damaged_from_the_start_is_refused(self, port: int, coding: str) -> None:
        with Stream(port, headers={"Content-Encoding": coding}) as stream:
            stream.send_all([b"damage"])
            assert stream.answer.status == 400


def test_lines_are_answered_while_the_request_still_arrives(port: int) -> None:
    packer = zlib.compressobj()
    with Stream(port, headers={"Content-Encoding": "deflate"}) as stream:
        answers = stream.lines()
        for number, line in enumerate(LINES[:5], 1):
            stream.send(packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH))
            assert next(answers)["line"] == number
        stream.send(packer.flush())
        stream.end()
        assert list(answers) == []


def test_a_form_that_breaks_is_not_unpacked_further(port: int) -> None:
    packed = PACK["gzip"](b"no form" + bytes(10**6))
    with Stream(port, headers={**FORM, "Content-Encoding": "gzip"}) as stream:
        stream.send_all([packed])
        assert (stream.answer.status, b"not multipart" in stream.answer.read()) == (400, True)


def test_there_are_only_so_many_members(port: int) -> None:
    packed = PACK["gzip"](LINES[0]) + PACK["gzip"](b"\n") * 1024
    found: list[Any] = []
    with Stream(port, headers={"Content-Encoding": "gzip"}) as stream:
        stream.send_all([packed])
        with pytest.raises(http.client.IncompleteRead):
            found.extend(stream.lines())
    assert [each.get("error", {}).get("status") for each in found] == [None, 413]


def test_it_waits_for_the_memory_of_the_window(start_server: Callable[..., int]) -> None:
    """Two of zstd, where there is memory for the window of one."""
    port = start_server(memory_bytes=12 * 2**20, max_body_bytes=2**20)
    packed = PACK["zstd"](LINES[0])
    with Stream(port, headers={"Content-Encoding": "zstd"}) as first:
        first.send(packed[:-1])
        with Stream(port, headers={"Content-Encoding": "zstd"}) as second:
            second.send_all([packed])
            first.send(packed[-1:])
            first.end()
            assert len(list(first.lines())) == 1
            assert len(list(second.lines())) == 1
