"""A server under fire, and what is asked of its answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.connection import Answer, Connection, request
from harness.digits import encoded
from harness.paths import MODELS
from harness.servers import Server

GOLDEN: Final = MODELS / "mnist-mlp" / "1" / "golden.npz"


@dataclass(frozen=True)
class Target(Server):
    """A server under fire, and the one good answer that it must give whatever came before."""

    truth: bytes

    def connect(self) -> Connection:
        return Connection(self.port)

    @contextmanager
    def works_at_most(self, seconds: float) -> Iterator[None]:
        """Fail when the server uses more processor time than that until the block ends, however long it waits."""
        before = self.cpu_seconds()
        yield
        assert self.cpu_seconds() - before < seconds

    def is_well(self) -> None:
        """Fail unless the good request is answered right on both ways to the verbs."""
        with self.connect() as connection:
            for path in ("/encode", "/%65ncode"):
                answer = connection.ask(good_request(path))
                assert (answer.status, answer.body) == (200, self.truth)


def good_request(path: str = "/encode") -> bytes:
    """A request whose answer is known: an image that the model's bundle holds, with what PyTorch made of it."""
    with np.load(GOLDEN) as golden:
        picture = base64.b64encode(encoded(golden["image"][0])).decode()
    return request(path, json.dumps({"images": [picture], "preprocess": "none"}).encode())


def known_answer(port: int) -> bytes:
    """The answer to the good request, once it has been found to be what PyTorch says."""
    with Connection(port) as connection:
        answer = connection.ask(good_request())
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(answer.json["mu"][0], golden["mu"][0], atol=1e-4)
    return answer.body


def is_problem(answer: Answer) -> None:
    """Fail unless an answer is a problem as RFC 9457 has it, and the client's fault."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.json["detail"]
