"""Connections that are hostile: what one client may take of the service, and what it may do to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.servers import Server, running


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start real servers with settings of the test's own. Each ends with no failure of its own in its log."""
    with ExitStack() as stack:
        servers: list[Server] = []

        def start(**settings: object) -> Server:
            servers.append(stack.enter_context(running(tmp_path_factory.mktemp("server") / "log", **settings)))
            return servers[-1]

        yield start
        for server in servers:
            written = server.log.read_text()
            assert "Traceback" not in written
            assert "ERROR" not in written


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Server:
    """A server with default settings."""
    return start()
