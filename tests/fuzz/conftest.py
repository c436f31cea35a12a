"""Hostile input: the service answers each of it as documented, and the next good request as if it had never come.

Two lengths. The short form runs with every other test: always the same examples, about a minute of them. With FUZZ=long
in the environment (as `make soak` sets it) Hypothesis and Schemathesis try new ones for as long as the profile says:

    FUZZ=long python -m pytest tests/fuzz
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from harness.paths import MODELS
from harness.servers import running
from service.inference.registry import Registry, RegistryOptions, open_registry
from tests.fuzz.target import Target, known_answer

LONG = os.environ.get("FUZZ") == "long"

# How long examples take depends on how busy the machine is. So no limit on their time is set.
settings.register_profile("any", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("any"), derandomize=True, max_examples=50)
settings.register_profile("long", settings.get_profile("any"), max_examples=5_000)
settings.load_profile("long" if LONG else "ci")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return open_registry(MODELS, default="mnist-mlp", options=RegistryOptions("cpu", threads=1, batch=1))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Target]]:
    """Start real servers with settings of the test's own."""
    with ExitStack() as stack:

        def start(**settings: object) -> Target:
            server = stack.enter_context(running(tmp_path_factory.mktemp("server") / "log", **settings))
            return Target(server.process, server.port, server.log, known_answer(server.port))

        yield start


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
