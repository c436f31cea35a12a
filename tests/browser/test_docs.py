"""Swagger UI on /docs: each operation can be tried as the page shows it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, Response, expect

from harness.paths import DIGIT
from harness.servers import Server


def open_docs(page: Page, server: Server) -> None:
    """Open /docs, and wait until it shows the operations."""
    page.goto(f"{server.url}/docs")
    page.locator(".opblock").first.wait_for()


def try_out(page: Page, operation: str) -> Locator:
    """Open an operation and click "Try it out"."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return block


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
    expect(page.locator(".opblock")).to_have_count(16)
    expect(page.locator(".info .title")).to_contain_text("VAE inference service")


def test_every_operation_can_be_tried_as_it_stands(page: Page, server: Server) -> None:
    """All on one page: loading Swagger UI takes most of such a test."""
    operations = [
        *("verbs-encode", "verbs-reconstruct", "verbs-score", "verbs-sample", "verbs-decode"),
        *("verbs-interpolate", "verbs-traverse"),
        *("models-list_models", "models-get_model", "models-get_model_file"),
        *("openai-create_embeddings", "openai-list_openai_models", "openai-get_openai_model"),
        *("probes-livez", "probes-readyz", "probes-metrics"),
    ]
    open_docs(page, server)
    statuses = {operation: execute(page, try_out(page, operation)).status for operation in operations}
    assert statuses == dict.fromkeys(operations, 200)


@pytest.mark.parametrize("media_type", ["multipart/form-data", "image/png"])
def test_a_picture_can_be_sent_as_a_file(page: Page, server: Server, media_type: str) -> None:
    open_docs(page, server)
    for operation in ("encode", "reconstruct", "score", "traverse"):
        block = try_out(page, f"verbs-{operation}")
        block.get_by_label("Request content type").select_option(media_type)
        block.locator("input[type=file]").set_input_files(DIGIT)
        answer = execute(page, block)
        assert answer.status == 200, operation
        assert (answer.request.header_value("content-type") or "").startswith(media_type)


@pytest.mark.parametrize(
    ("operation", "pixels"),
    [("reconstruct", 28), ("sample", 2 * 28), ("decode", 28), ("interpolate", 8 * 28), ("traverse", 7 * 28)],
)
def test_an_answer_that_is_a_picture_is_shown(page: Page, server: Server, operation: str, pixels: int) -> None:
    open_docs(page, server)
    block = try_out(page, f"verbs-{operation}")
    block.get_by_label("Media Type").first.select_option("image/png")
    assert execute(page, block).header_value("content-type") == "image/png"
    expect(block.locator(".live-responses-table img")).to_have_js_property("naturalWidth", pixels)


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
        assert execute(page, try_out(page, operation)).status == 200


def test_with_keys_the_probes_can_be_tried_without_one(page: Page, server_with_key: Server) -> None:
    open_docs(page, server_with_key)
    assert execute(page, try_out(page, "probes-readyz")).status == 200
