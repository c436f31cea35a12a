"""Real servers: `python -m service`, each in processes of its own. Those with default settings are shared by tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import Server, running

KEY = "sesame"

with_workers = pytest.fixture(scope="session", params=[1, 2], ids=["one worker", "two workers"])


@with_workers
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker, and one with two."""
    with running(tmp_path_factory.mktemp("server") / "log", workers=request.param) as server:
        yield server


@with_workers
def locked_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, with the API key `KEY`."""
    folder = tmp_path_factory.mktemp("locked-server")
    (folder / "keys").write_text(f"{KEY}\n")
    with running(folder / "log", workers=request.param, api_keys_file=folder / "keys") as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of the test's own, and wait until they are ready."""
    with contextlib.ExitStack() as stack:
        logs = (tmp_path / f"server-{number}.log" for number in range(100))
        yield lambda module="service", **settings: stack.enter_context(running(next(logs), module, **settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the checkout that documents name."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path
