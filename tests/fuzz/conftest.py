"""Hostile input: the service answers each of it as documented, and the next good request as if it had never come.

Two lengths. The short form runs with every other test: always the same examples, about a minute of them. With FUZZ=long
in the environment (as `make soak` sets it) Hypothesis and Schemathesis try new ones for as long as the profile says:

    FUZZ=long python -m pytest tests/fuzz
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.connection import Answer, Connection, request
from tests.digits import encoded
from tests.e2e.conftest import ROOT, Server, free_port, wait_until_ready

LONG = os.environ.get("FUZZ") == "long"

settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile(
    "long", deadline=None, database=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("long" if LONG else "ci")

GOLDEN = ROOT / "models" / "mnist-mlp" / "1" / "golden.npz"


@dataclass(frozen=True)
class Target(Server):
    """A server under fire, and the one good answer that it must give whatever came before."""

    truth: bytes

    def connect(self) -> Connection:
        return Connection(self.port)

    def is_well(self) -> None:
        """Fail unless the good request is answered right on both ways to the verbs."""
        with self.connect() as connection:
            for path in ("/encode", "/%65ncode"):
                answer = connection.ask(good_request(path))
                assert (answer.status, answer.body) == (200, self.truth)

    def memory(self, line: str = "VmRSS") -> int:
        """A line of /proc/PID/status, in MiB; VmHWM is the peak since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{line}:")[1].split()[0]) // 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def good_request(path: str = "/encode") -> bytes:
    """A request whose answer is known: an image that the model's bundle holds, with what PyTorch made of it."""
    with np.load(GOLDEN) as golden:
        picture = base64.b64encode(encoded(golden["image"][0])).decode()
    return request(path, json.dumps({"images": [picture], "preprocess": "none"}).encode())


def is_problem(answer: Answer) -> None:
    """Fail unless an answer is a problem as RFC 9457 has it, and the client's fault."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.json["detail"]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Target]]:
    """Start real servers with settings of the test's own. What they log goes to a file: a pipe would fill and block."""
    with ExitStack() as stack:

        def start(**settings: object) -> Target:
            log = tmp_path_factory.mktemp("server") / "log"
            port = free_port()
            chosen = {f"VAE_{name.upper()}": str(value) for name, value in settings.items()}
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "service"],
                    cwd=ROOT,
                    env=os.environ | chosen | {"VAE_PORT": str(port)},
                    stderr=stack.enter_context(log.open("wb")),
                )
            )
            stack.callback(process.kill)
            wait_until_ready(Server(process, port, log))
            return Target(process, port, log, known_answer(port))

        yield start


def known_answer(port: int) -> bytes:
    """The answer to the good request, once it has been found to be what PyTorch says."""
    with Connection(port) as connection:
        answer = connection.ask(good_request())
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(answer.json["mu"][0], golden["mu"][0], atol=1e-4)
    return answer.body


@pytest.fixture(scope="session")
def shared_target(start: Callable[..., Target]) -> Target:
    return start()


@pytest.fixture
def target(shared_target: Target) -> Iterator[Target]:
    """A server that every test leaves well, without a word of a failure of its own in the log."""
    logged = shared_target.log.stat().st_size
    yield shared_target
    assert shared_target.process.poll() is None
    shared_target.is_well()
    with shared_target.log.open() as log:
        log.seek(logged)
        written = log.read()
    assert "Traceback" not in written
    assert "ERROR" not in written
