"""What is asked of the service, and what it must answer: the routes and the bodies that the generator draws from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.connection import Connection, request
from harness.digits import base64_png, digits, encoded
from tests.hostile import protocol

SETTINGS: Final[Mapping[str, object]] = {"max_body_bytes": 256 * 1024, "deadline_ms": 60_000}
MOST_BODY: Final = 256 * 1024
MOST_HEAD: Final = 32 * 1024

JSON: Final = b"application/json"
PNG: Final = b"image/png"
BYTES: Final = b"application/octet-stream"
HIDDEN: Final = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: smuggled\r\n\r\n"

_FILES: Final = "/models/mnist-mlp/files"
TAGGED: Final = ("/models", "/models/mnist-mlp", f"{_FILES}/README.md", f"{_FILES}/reconstructions.png")
PAGES: Final = ("/livez", "/readyz", *TAGGED, "/v1/models", "/v1/models/mnist-mlp", *protocol.PAGES)
FORM: Final = b"multipart/form-data"
TAKES: Final = {  # the media types of the verbs' bodies, of those that are asked here
    **dict.fromkeys(("/encode", "/reconstruct", "/score", "/traverse"), (JSON, PNG, FORM)),
    "/interpolate": (JSON, FORM),
    **dict.fromkeys(("/sample", "/decode", "/v1/embeddings"), (JSON,)),
}
CHANGING: Final = ("/metrics", *protocol.CHANGING)
METHODS: Final = dict.fromkeys((*PAGES, *CHANGING), "GET") | dict.fromkeys((*TAKES, *protocol.PATHS), "POST")

Key = tuple[str, tuple[bytes, ...], bytes]


@dataclass(frozen=True)
class Question:
    """A POST, and the status of its answer; that of a good one has a known body, too. `fields` are more of its head."""

    path: str
    media_type: bytes
    body: bytes
    status: int = 200
    fields: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def key(self) -> Key:
        """The path, the fields that the answer depends on, and the body."""
        if self.path not in protocol.PATHS:
            return self.path, (self.media_type,), self.body
        return self.path, tuple(dict(self.fields).get(name, b"") for name in protocol.FIELDS), self.body


def _pictures(*which: int, **options: object) -> bytes:
    return json.dumps({"images": [base64_png(digits()[number]) for number in which]} | options).encode()


QUESTIONS: Final = (
    *(Question("/encode", JSON, _pictures(number)) for number in range(6)),
    Question("/encode", JSON, _pictures(*range(20))),
    Question("/encode", PNG, encoded(digits()[7])),
    Question("/reconstruct", JSON, _pictures(8)),
    Question("/score", JSON, _pictures(8)),
    Question("/score", JSON, _pictures(8, 9, k=20, seed=3)),
    Question("/sample", JSON, b'{"n": 2, "seed": 7}'),
    Question("/sample", JSON, b'{"n": 300, "seed": 8}'),
    Question("/interpolate", JSON, _pictures(1, 2, path="spherical")),
    Question("/traverse", PNG, encoded(digits()[3])),
    Question("/v1/embeddings", JSON, json.dumps({"input": base64_png(digits()[4])}).encode()),
    Question("/v1/embeddings", JSON, b'{"input": "no picture"}', 400),
    Question("/interpolate", JSON, _pictures(1), 422),
    Question("/encode", JSON, _pictures(0, model="nobody"), 404),
    Question("/encode", JSON, b"", 400),
    Question("/encode", JSON, b"{}", 422),
    Question("/encode", JSON, b'{"images": [', 400),
    Question("/encode", JSON, HIDDEN, 400),
    Question("/encode", JSON, HIDDEN * 200, 400),
    Question("/encode", JSON, b"0\r\n\r\n" + HIDDEN, 400),
    Question("/encode", JSON, b" " * (MOST_BODY - 2) + b"{}", 422),
    Question("/encode", JSON, b" " * (MOST_BODY + 1), 413),
    Question("/decode", JSON, b'{"z": [[1, 2, 3]]}', 422),
    Question("/encode", b"text/plain", HIDDEN, 415),
    Question("/encode", b"text/plain", b"x" * 100_000, 415),
    Question("/v1/embeddings", JSON, json.dumps({"input": [base64_png(digits()[4])], "user": "a"}).encode()),
    Question("/v1/embeddings", JSON, b'{"input": "", "dimensions": 2}', 400),
    Question("/v1/embeddings", JSON, b'{"input": "", "model": "nobody"}', 404),
    *(Question(path, BYTES, body, status, fields) for path, body, status, fields in protocol.QUESTIONS),
)

STATUSES: Final = {each.key: each.status for each in QUESTIONS}


class Truth:
    """The bodies of the good answers, as a plain client got them, one by one."""

    def __init__(self, port: int) -> None:
        """Ask a server that nobody else asks."""
        self._verbs: dict[Key, bytes] = {}
        self._pages: dict[str, bytes] = {}
        with Connection(port) as connection:
            for each in QUESTIONS:
                lines = [b"%b: %b" % field for field in each.fields]
                answer = connection.ask(request(each.path, each.body, each.media_type, *lines))
                assert answer.status == each.status, (each, answer)
                if each.status == 200:
                    self._verbs[each.key] = answer.body
            for path in PAGES:
                answer = connection.ask(request(path, None, method="GET"))
                assert answer.status == 200, (path, answer)
                self._pages[path] = answer.body

    def answer(self, key: Key) -> bytes:
        """The body of the good answer to this question."""
        return self._verbs[key]

    def page(self, path: str) -> bytes | None:
        """The body of a page; None where it changes."""
        return self._pages.get(path)


GOOD: Final = request(QUESTIONS[0].path, QUESTIONS[0].body, QUESTIONS[0].media_type)
