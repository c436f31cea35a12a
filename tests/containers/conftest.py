"""One build and one `docker compose up` for all tests: the service with models of its own, and Prometheus."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.paths import MODELS
from harness.servers import Server
from tests.containers.docker import IMAGE, Container, run

MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[MEASURED]
    if lines:
        terminalreporter.section("measured")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Have a line printed after the tests."""
    return pytestconfig.stash[MEASURED].append


@dataclass(frozen=True)
class Stack:
    """What `docker compose up` has started: the service, the address of Prometheus, and the mounted models."""

    service: Container
    prometheus: str
    models: Path


@pytest.fixture(scope="session")
def image(measured: Callable[[str], None]) -> str:
    """The image of the working tree."""
    began = time.monotonic()
    labels = {"VERSION": version("vae-service"), "REVISION": "of-the-test"}
    run("docker", "compose", "build", "vae", env=labels)
    measured(f"build: {time.monotonic() - began:.0f} s")
    return IMAGE


@pytest.fixture(scope="session")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory, measured: Callable[[str], None]) -> Iterator[Stack]:
    """The service and Prometheus, as `docker compose --profile monitoring up` starts them, but on free ports."""
    models = tmp_path_factory.mktemp("mounted") / "models"
    shutil.copytree(MODELS, models)
    data = tmp_path_factory.mktemp("prometheus")
    data.chmod(0o777)  # Prometheus has a user of its own
    chosen = {
        "COMPOSE_PROJECT_NAME": f"vae-test-{models.stat().st_ino}",
        "MODELS_DIR": str(models),
        "VAE_PORT": "0",
        "PROMETHEUS_PORT": "0",
        "PROMETHEUS_DATA": str(data),
    }

    def compose(*command: str) -> str:
        return run("docker", "compose", "--profile", "monitoring", *command, env=chosen)

    try:
        began = time.monotonic()
        compose("up", "--no-build", "--wait", "--wait-timeout", "120", "--detach", "vae", "prometheus")
        took = time.monotonic() - began
        port = compose("port", "vae", "8000").rpartition(":")[2]
        service = Container(compose("ps", "--quiet", "vae"), int(port))
        measured(
            f"docker compose up --wait: {took:.1f} s, of which the service took {service.seconds_to_start():.1f} s"
        )
        yield Stack(service, f"http://{compose('port', 'prometheus', '9090')}", models)
    finally:
        compose("down", "--volumes", "--timeout", "30")


@pytest.fixture(scope="session")
def server(stack: Stack) -> Iterator[Server]:
    """The service in its container, for tests that are imported from elsewhere."""
    with stack.service.as_server() as server:
        yield server


@pytest.fixture
def serve(server: Server) -> Callable[[], Server]:
    """The same, for tests that start a server with default settings."""
    return lambda: server
