"""The commands of the README and of other documents, against the container."""

from __future__ import annotations

from tests.documents.test_blocks import ran, test_its_blocks_run_and_print_what_it_says
from tests.e2e.conftest import folder
from tests.e2e.test_open_inference_document import test_the_curl_lines, test_the_program

__all__ = [
    "folder",
    "ran",
    "test_its_blocks_run_and_print_what_it_says",
    "test_the_curl_lines",
    "test_the_program",
]
