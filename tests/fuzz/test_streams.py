"""Streams of anything: each line has its answer, and only the good ones a good one."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from harness.codings import PACK
from harness.digits import base64_png, digits, encoded
from harness.streams import FORM, FORM_END, Stream, part
from service.api.schemas import StreamLine
from service.api.stream_groups import plain_line
from tests.fuzz.target import Target

GOOD = json.dumps({"image": base64_png(digits()[0])}).encode()
FILE = encoded(digits()[0])
NONSENSE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b" \r", b"{}", b"[]", b'"', b"\xff", b"\0", b'{"image":', b'{"image": ""}', b"1e999"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.dictionaries(st.sampled_from(["image", "id", "line"]), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode()),
)


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body, cut at these places, as far as it has them."""
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    return [body[start:end] for start, end in pairwise(places)]


def said(target: Target, pieces: list[bytes], **headers: str) -> tuple[int, list[Any]]:
    """The status of the answer to a stream, and its lines; of a refusal none."""
    lines: list[Any] = []
    with Stream(target.port, headers=headers) as stream:
        stream.send_all(pieces)
        if stream.answer.status != 200:
            return stream.answer.status, []
        with suppress(http.client.IncompleteRead):
            lines.extend(stream.lines())
    return 200, lines


@given(
    lines=st.lists(st.one_of(st.just(GOOD), NONSENSE.map(lambda line: line.replace(b"\n", b"")))),
    cuts=st.lists(st.integers(1, 2000), max_size=5),
)
@example(lines=[GOOD, b'{"image": "\\ud800"}', GOOD], cuts=[])
def test_each_line_is_answered_for_itself(shared_target: Target, lines: list[bytes], cuts: list[int]) -> None:
    status, answers = said(shared_target, pieces_of(b"\n".join(lines), cuts))
    wanted = [number for number, line in enumerate(lines, 1) if line.strip(b" \t\r\v\f")]
    assert status == 200
    assert [answer["line"] for answer in answers] == wanted
    for answer in answers:
        assert ("mu" in answer) != ("error" in answer)
        assert "mu" in answer or answer["error"]["status"] in (400, 413, 422)
        assert "mu" in answer or lines[answer["line"] - 1] != GOOD


@given(line=NONSENSE)
@example(line=GOOD)
@example(line=b'{"image": 1, "image": "a"}')
@example(line=b'{"image": "a", "image": 1}')
@example(line=b'{"image": "a", "id": "\\ud83d\\ude00"}')
@example(line=b'{"image": "a", "id": "%b"}' % ("\u00ef".encode() * 257))
@example(line=b'\xef\xbb\xbf{"image": "a"}')
def test_what_is_read_quickly_is_what_the_schema_reads(line: bytes) -> None:
    found = plain_line(line)
    if found is not None:
        form = StreamLine.model_validate_json(line, strict=True)
        assert found == (form.image, form.id)


@given(
    parts=st.lists(st.one_of(st.just(part(FILE, "digit")), NONSENSE.map(part), NONSENSE)),
    cuts=st.lists(st.integers(1, 2000), max_size=5),
)
def test_a_form_is_answered_as_far_as_it_is_one(shared_target: Target, parts: list[bytes], cuts: list[int]) -> None:
    status, answers = said(shared_target, pieces_of(b"".join(parts) + FORM_END, cuts), **FORM)
    assert status in (200, 400, 422)
    numbers = [answer["line"] for answer in answers if "line" in answer]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all("line" in answer for answer in answers[:-1])
    assert all(answer["error"]["status"] in (400, 413, 422) for answer in answers if "error" in answer)


@given(
    lines=st.lists(st.one_of(st.just(GOOD), st.just(b"")), max_size=5),
    coding=st.sampled_from(sorted(PACK)),
    cuts=st.lists(st.integers(1, 500), max_size=5),
    damage=st.none() | st.tuples(st.integers(0, 500), st.integers(1, 255)),
)
def test_a_compressed_stream_is_answered_as_far_as_it_is_whole(
    shared_target: Target, lines: list[bytes], coding: str, cuts: list[int], damage: tuple[int, int] | None
) -> None:
    packed = bytearray(PACK[coding](b"\n".join(lines)))
    if damage is not None:
        packed[damage[0] % len(packed)] ^= damage[1]
    status, answers = said(shared_target, pieces_of(bytes(packed), cuts), **{"Content-Encoding": coding})
    assert status in ((200,) if damage is None else (200, 400, 413))
    assert all("line" in answer for answer in answers[:-1])
    if damage is None:
        assert [answer["line"] for answer in answers] == [number for number, line in enumerate(lines, 1) if line]
        assert all("mu" in answer for answer in answers)


def test_the_server_is_well_after_all_that(target: Target) -> None:
    target.is_well()
