"""One real server for all tests of the client, and faulty ones before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.servers import Server, running
from tests.client.faulty import FaultyServer
from vae_client import Client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service, without keys, with one worker."""
    with running(tmp_path_factory.mktemp("server") / "log", models="") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of the service."""
    with Client(server.url) as client:
        yield client


@pytest.fixture
def faulty(server: Server) -> Iterator[FaultyServer]:
    """What hands requests on to the service, and can be told to do something else."""
    with FaultyServer(server.port) as faulty:
        yield faulty
