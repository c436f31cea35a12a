"""Streams to a server with one worker, and with two."""

from __future__ import annotations

import json
from contextlib import ExitStack

from harness.digits import base64_png, digits
from harness.servers import Server
from harness.streams import Stream

LINES = [json.dumps({"image": base64_png(digit)}).encode() + b"\n" for digit in digits()[:100]]


def test_streams_at_once_have_the_same_answer_whichever_worker_has_them(server: Server) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(server.port, "/encode?sample=true&seed=5")) for _ in range(12)]
        for piece in LINES[0], b"".join(LINES[1:]):
            for stream in streams:
                stream.send(piece)
        for stream in streams:
            stream.end()
        first, *others = [list(stream.lines()) for stream in streams]
    assert [line["line"] for line in first if "z" in line] == list(range(1, 101))
    assert others == [first] * 11
