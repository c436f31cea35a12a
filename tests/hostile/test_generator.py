"""Generated connections against a real server: the short form of `python -m tests.hostile`, always the same seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harness.servers import Server
from tests.hostile import protocol
from tests.hostile.frames import plain
from tests.hostile.questions import GOOD, HIDDEN, QUESTIONS, SETTINGS, Truth
from tests.hostile.reference import Verdict, judge
from tests.hostile.runner import run

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /nowhere HTTP/1.1\r\nHost: a\r\n"
INFER = plain(next(each for each in QUESTIONS if each.path == protocol.INFER))
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def generated(start: Callable[..., Server]) -> Server:
    return start(**SETTINGS)


@pytest.fixture(scope="module")
def truth(generated: Server) -> Truth:
    return Truth(generated.port)


def test_every_connection_is_answered_as_rfc_9112_has_it(generated: Server, truth: Truth) -> None:
    report = asyncio.run(run(generated, truth, range(1_500), warm=500))
    assert report.found == [], "python -m tests.hostile --seed N shows one of them"
    assert report.connections == 1_500
    assert report.memory[1] - report.memory[0] < 50e6


def said(verdict: Verdict) -> list[list[int]]:
    return [sorted(want.ok | want.refused | want.early) for want in verdict.wants]


@pytest.mark.parametrize(
    ("data", "statuses", "closed"),
    [
        (b"", [], False),
        (b"\r\n\r\n", [], False),
        (LIVEZ + b"\r\n" + GOOD + LIVEZ, [[200], [200], [200]], False),
        (POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + LIVEZ, [[404], [200]], False),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n" + LIVEZ, [[404], [200]], False),
        (POST + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc" + LIVEZ, [[404], [200]], False),
        (INFER + INFER.replace(b"784", b"783") + GOOD, [[200], [200, 400, 404, 413, 415], [200]], False),
        (INFER.replace(b"POST", b"OPTIONS") + INFER.replace(b"POST", b"PUT"), [[200], [405]], False),
        (LIVEZ.replace(b"/livez", b"/v2/models/mnist-mlp.encoder"), [[200]], False),
        (LIVEZ.replace(b"/livez", b"/v2/models/x/config"), [[200, 404]], False),
        (LIVEZ.replace(b"/livez", b"/v1/models/nobody"), [[404]], False),
        (LIVEZ.replace(b"/livez", b"/models")[:-2] + b"If-None-Match: *\r\n\r\n", [[304]], False),
        (LIVEZ.replace(b"1.1", b"1.0") + LIVEZ, [[200]], True),
        (LIVEZ[:-2] + b"Connection: close\r\n\r\n" + LIVEZ, [[200]], True),
        (LIVEZ.replace(b"Host: a\r\n", b"") + LIVEZ, [[400]], True),
        (LIVEZ[:-2] + b"Host: a\r\n\r\n" + LIVEZ, [[400]], True),
        (LIVEZ[:-2] + b"X: a\r\n b\r\n\r\n" + LIVEZ, [[400]], True),
        (LIVEZ[:-2] + b"X : a\r\n\r\n" + LIVEZ, [[400]], True),
        (LIVEZ[:-2] + b"X: " + b"x" * 40_000 + b"\r\n\r\n" + LIVEZ, [[414, 431]], True),
        (LIVEZ + b"garbage\r\n\r\n" + LIVEZ, [[200], [400, 501, 505]], True),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx" + LIVEZ, [[400]], True),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + LIVEZ, [[400]], True),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + LIVEZ, [[400, 501]], True),
        (CHUNKED + b"3\nabc\r\n0\r\n\r\n" + LIVEZ, [[400, 404]], True),
        (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n" + LIVEZ, [[400, 404]], True),
        (CHUNKED + b"%x\r\n" % 2**64 + LIVEZ, [[400, 404]], True),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n" + LIVEZ, [[404, 431]], True),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + LIVEZ, [[400, 405, 501]], True),
    ],
)
def test_the_oracle(truth: Truth, data: bytes, statuses: list[list[int]], closed: bool) -> None:
    verdict = judge(data, truth)
    assert said(verdict) == statuses
    assert (verdict.closed, verdict.partial) == (closed, False)


def test_what_is_not_whole_needs_no_answer(truth: Truth) -> None:
    for part in (GOOD[:20], GOOD[:-1], CHUNKED + b"3\r\nab", CHUNKED + b"0\r\n"):
        verdict = judge(LIVEZ + part, truth)
        assert verdict.partial
        assert [want.silent for want in verdict.wants] == [False, True]
