"""A real server: `python -m service` in a process of its own, on a free port, stopped by its own pid."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A running server, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    """A TCP port of the loopback interface that nobody holds just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of the test's own, and wait until they are ready."""
    with contextlib.ExitStack() as stack:

        def serve(module: str = "service", **settings: object) -> Server:
            port = free_port()
            environment = os.environ | {f"VAE_{name.upper()}": str(value) for name, value in settings.items()}
            log = tmp_path / f"server-{port}.log"  # not a pipe, which would stop the server when it is full
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", module],
                    cwd=ROOT,
                    env=environment | {"VAE_PORT": str(port)},
                    stderr=stack.enter_context(log.open("wb")),
                )
            )
            stack.callback(process.kill)
            server = Server(process, port, log)
            wait_until_ready(server)
            return server

        yield serve


def wait_until_ready(server: Server) -> None:
    """Ask /readyz until it says yes; fail when the process ends or 30 seconds have passed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            pytest.fail(f"the server ended before it was ready:\n{server.log.read_text()}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/readyz").status_code == 200:
                return
        time.sleep(0.02)
    pytest.fail("the server was not ready within 30 s")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Fingerprint until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
