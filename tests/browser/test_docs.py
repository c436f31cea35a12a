"""Swagger UI on /docs: each operation can be tried as the page shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, Response, expect

from harness.paths import DIGIT
from harness.servers import Server

# One page load takes two seconds of processor time, so a test tries several operations on one page.
OPERATIONS = (
    *("verbs-encode", "verbs-reconstruct", "verbs-score", "verbs-sample", "verbs-decode"),
    *("verbs-interpolate", "verbs-traverse"),
    *("models-list_models", "models-get_model", "models-get_model_file"),
    *("openai-create_embeddings", "openai-list_openai_models", "openai-get_openai_model"),
    *("probes-livez", "probes-readyz", "probes-metrics"),
)


def open_docs(page: Page, server: Server) -> None:
    """Open /docs, and wait until it shows the operations."""
    page.goto(f"{server.url}/docs")
    page.locator(".opblock").first.wait_for()


@contextmanager
def trying_out(page: Page, operation: str) -> Iterator[Locator]:
    """Open an operation, once for each page, and click "Try it out". It is closed again: many open ones are slow."""
    block = page.locator(f"#operations-{operation}")
    summary = block.locator(".opblock-summary-control")
    summary.click()
    block.get_by_role("button", name="Try it out").click()
    yield block
    summary.click()


def execute(page: Page, block: Locator) -> Response:
    """Click "Execute", and give the service's answer once the page shows its status as a documented one."""
    with page.expect_response(lambda response: "/docs" not in response.url) as waiting:
        block.get_by_role("button", name="Execute").click()
    shown = block.locator(".live-responses-table .response .response-col_status")
    expect(shown).to_have_text(str(waiting.value.status))  # it would say "Undocumented" beside one that is not
    return waiting.value


def test_the_page_needs_no_other_host(page: Page, server: Server) -> None:
    """The page itself checks that."""
    open_docs(page, server)
    expect(page.locator(".opblock")).to_have_count(len(OPERATIONS))
    expect(page.locator(".info .title")).to_contain_text("VAE inference service")


def test_every_operation_can_be_tried_as_it_stands(page: Page, server: Server, subtests: pytest.Subtests) -> None:
    open_docs(page, server)
    for operation in OPERATIONS:
        with subtests.test(operation), trying_out(page, operation) as block:
            assert execute(page, block).status == 200


def test_a_picture_can_be_sent_as_a_file(page: Page, server: Server, subtests: pytest.Subtests) -> None:
    open_docs(page, server)
    form, picture = "multipart/form-data", "image/png"
    sent = {"encode": form, "reconstruct": picture, "score": picture, "traverse": form}
    for operation, media_type in sent.items():
        with subtests.test(operation), trying_out(page, f"verbs-{operation}") as block:
            block.get_by_label("Request content type").select_option(media_type)
            block.locator("input[type=file]").set_input_files(DIGIT)
            answer = execute(page, block)
            assert answer.status == 200
            assert (answer.request.header_value("content-type") or "").startswith(media_type)


def test_an_answer_that_is_a_picture_is_shown(page: Page, server: Server, subtests: pytest.Subtests) -> None:
    open_docs(page, server)
    widths = {"reconstruct": 28, "sample": 2 * 28, "decode": 28, "interpolate": 8 * 28, "traverse": 7 * 28}
    for operation, width in widths.items():
        with subtests.test(operation), trying_out(page, f"verbs-{operation}") as block:
            block.get_by_label("Media Type").first.select_option("image/png")
            assert execute(page, block).header_value("content-type") == "image/png"
            expect(block.locator(".live-responses-table img")).to_have_js_property("naturalWidth", width)


@pytest.mark.parametrize("field", ["#auth-bearer-value", "#api_key_value"], ids=["bearer", "X-API-Key"])
def test_with_keys_operations_succeed_after_authorize(page: Page, server_with_key: Server, field: str) -> None:
    open_docs(page, server_with_key)
    page.locator(".auth-wrapper .authorize").click()
    dialog = page.locator(".dialog-ux")
    dialog.locator(field).fill("sesame")
    dialog.locator("form").filter(has=page.locator(field)).get_by_role("button", name="Apply credentials").click()
    expect(dialog.get_by_text("******")).to_be_visible()  # it has taken the key
    dialog.locator(".close-modal").click()
    for operation in ("verbs-encode", "models-list_models"):
        with trying_out(page, operation) as block:
            assert execute(page, block).status == 200


def test_with_keys_the_probes_can_be_tried_without_one(page: Page, server_with_key: Server) -> None:
    open_docs(page, server_with_key)
    with trying_out(page, "probes-readyz") as block:
        assert execute(page, block).status == 200
