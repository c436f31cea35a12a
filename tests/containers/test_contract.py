"""The tests of the API that need no settings of their own, against the container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http as triton

from harness.servers import Server
from tests.e2e.test_openai import (
    test_its_asynchronous_client_too,
    test_its_client_gets_the_right_embeddings,
    test_its_client_lists_the_models,
)
from tests.e2e.test_server import test_a_real_server_answers_real_digits
from tests.e2e.test_triton_client import TestInference, TestQuestions, engine

__all__ = [
    "TestInference",
    "TestQuestions",
    "engine",
    "test_a_real_server_answers_real_digits",
    "test_its_asynchronous_client_too",
    "test_its_client_gets_the_right_embeddings",
    "test_its_client_lists_the_models",
]


@pytest.fixture
def locked_server(server: Server) -> Server:
    """The container. It has no keys, so whatever key a client sends is as good as none."""
    return server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    """Triton's client of the container."""
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8)) as client:
        yield client
