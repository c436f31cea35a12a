"""The tests of the API that need no settings of their own, against the container."""

from __future__ import annotations

import pytest

from harness.servers import Server
from tests.e2e.test_openai import (
    test_its_asynchronous_client_too,
    test_its_client_gets_the_right_embeddings,
    test_its_client_lists_the_models,
)
from tests.e2e.test_server import test_a_real_server_answers_real_digits
from tests.e2e.test_triton_client import TestInference, TestQuestions, client, engine

__all__ = [
    "TestInference",
    "TestQuestions",
    "client",
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
