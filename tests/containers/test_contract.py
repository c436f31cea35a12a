"""The tests of the API that need no settings of their own, and the documents' commands, against the container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http as triton

from harness.servers import Server
from tests.e2e.test_open_inference_document import folder, test_the_curl_lines, test_the_program
from tests.e2e.test_openai import (
    test_its_asynchronous_client_too,
    test_its_client_gets_the_right_embeddings,
    test_its_client_lists_the_models,
    test_the_lines_of_the_document_work_as_printed,
)
from tests.e2e.test_readme import test_the_curl_lines_work_as_printed
from tests.e2e.test_server import test_a_real_server_answers_real_digits
from tests.e2e.test_triton_client import TestInference, TestQuestions, engine

__all__ = [
    "TestInference",
    "TestQuestions",
    "engine",
    "folder",
    "test_a_real_server_answers_real_digits",
    "test_its_asynchronous_client_too",
    "test_its_client_gets_the_right_embeddings",
    "test_its_client_lists_the_models",
    "test_the_curl_lines",
    "test_the_curl_lines_work_as_printed",
    "test_the_lines_of_the_document_work_as_printed",
    "test_the_program",
]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    """Triton's client of the container."""
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8)) as client:
        yield client
