"""The commands of the README and of other documents, against the container."""

from __future__ import annotations

from tests.e2e.test_open_inference_document import folder, test_the_curl_lines, test_the_program
from tests.e2e.test_openai import test_the_lines_of_the_document_work_as_printed
from tests.e2e.test_readme import test_the_curl_lines_work_as_printed

__all__ = [
    "folder",
    "test_the_curl_lines",
    "test_the_curl_lines_work_as_printed",
    "test_the_lines_of_the_document_work_as_printed",
    "test_the_program",
]
