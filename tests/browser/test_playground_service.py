"""The playground and its service: keys, errors, requests to copy, and a service that is away for a while."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.playground import changed, draw_seven, go, picture, settled, use_model, visit
from harness.servers import Server


def with_key(page: Page, server: Server, key: str = "sesame") -> int:
    """Open the page of a service with keys, and give one. Returns the status of the first answer to it."""
    page.goto(server.url)
    page.get_by_label("API key", exact=True).fill(key)
    with page.expect_response("**/models?*") as answer:
        page.get_by_role("button", name="Use it").click()
    return answer.value.status


class TestErrors:
    def test_a_picture_that_cannot_be_used_is_a_problem_that_points_at_it(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        visit(page, server)
        draw_seven(page)
        with page.expect_response("**/reconstruct?*") as answer:
            page.get_by_label("Read as").select_option("none")
        notice = page.locator("#notice")
        expect(notice).to_contain_text("422 Unprocessable")
        expect(notice).to_contain_text("/images/0 The picture is 280x280 RGBA, not 28x28 L")
        expect(notice).to_contain_text(f"Request {answer.value.header_value('x-request-id')}")
        page.get_by_label("Read as").select_option("auto")
        expect(notice).to_be_empty()

    def test_a_request_over_a_limit_is_a_problem_too(
        self, open_page: Callable[..., Page], server_with_key: Server
    ) -> None:
        page = open_page(failures=True)
        with_key(page, server_with_key)
        go(page, "sample")
        settled(page, "sample")
        page.get_by_label("Images").select_option("64")
        expect(page.locator("#notice")).to_contain_text("413")
        expect(page.locator("#notice")).to_contain_text("at most 63")
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#notice")).to_be_empty()

    def test_a_service_that_goes_away_is_asked_until_it_is_back(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        visit(page, server, "bend")
        before = picture(page, "#bent")
        page.context.set_offline(True)
        page.locator("#sliders input").first.press("PageUp")
        expect(page.locator("#notice")).to_contain_text("The service does not answer.")
        assert picture(page, "#bent") == before
        page.context.set_offline(False)
        expect(page.locator("#notice")).to_be_empty()
        changed(page, "#bent", before)  # what was missed is caught up on

    def test_a_page_that_was_opened_too_early_begins_when_the_service_is_there(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        page.route("**/models?*", lambda route: route.abort("connectionrefused"), times=1)
        page.goto(server.url)
        expect(page.locator("#models")).to_have_value("mnist-mlp@2")
        expect(page.locator("#notice")).to_be_empty()


class TestKeys:
    def test_a_service_with_keys_asks_for_one_that_the_tab_keeps(
        self, open_page: Callable[..., Page], server_with_key: Server
    ) -> None:
        page = open_page(failures=True)
        assert with_key(page, server_with_key, "wrong") == 401
        expect(page.locator("#notice")).to_contain_text("401 Unauthorized")
        with_key(page, server_with_key)
        expect(page.locator("#models")).to_have_value("mnist-mlp@2")
        draw_seven(page)
        assert page.evaluate("[sessionStorage.getItem('key'), localStorage.length]") == ["sesame", 0]
        page.reload()
        expect(page.locator("#models")).to_have_value("mnist-mlp@2")
        go(page, "map")
        settled(page, "map")

    def test_without_keys_nothing_asks_for_one(self, page: Page, server: Server) -> None:
        visit(page, server)
        expect(page.locator("#key-open")).to_be_hidden()
        expect(page.locator("#key")).to_be_hidden()


class TestRequests:
    def test_the_request_behind_a_drawing_can_be_run(self, page: Page, server: Server, tmp_path: Path) -> None:
        visit(page, server)
        draw_seven(page)
        page.locator("#draw-request").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save the picture").click()
        saved.value.save_as(tmp_path / saved.value.suggested_filename)
        answer = json.loads(run(page, tmp_path, "curl"))
        assert answer["model"] == "mnist-mlp@2"
        assert ast.literal_eval(run(page, tmp_path, "Python")) == answer

    @pytest.mark.parametrize("tab", ["bend", "sample", "morph", "map"])
    def test_the_request_behind_a_picture_gives_that_picture(
        self, page: Page, server: Server, tmp_path: Path, tab: str
    ) -> None:
        visit(page, server, tab)
        page.locator(f"#{tab}-request").click()
        run(page, tmp_path, "curl")
        png = (tmp_path / "images.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        (tmp_path / "images.png").unlink()
        run(page, tmp_path, "Python")
        assert (tmp_path / "images.png").read_bytes() == png

    def test_with_keys_it_takes_the_key_from_the_environment(
        self, open_page: Callable[..., Page], server_with_key: Server
    ) -> None:
        page = open_page(failures=True)
        with_key(page, server_with_key)
        go(page, "sample")
        settled(page, "sample")
        page.locator("#sample-request").click()
        expect(page.locator("#request-code")).to_contain_text('-H "authorization: Bearer $API_KEY"')
        expect(page.locator("#request-code")).not_to_contain_text("sesame")


def run(page: Page, folder: Path, language: str) -> str:
    """Run what the dialog shows in a language, and give what it prints."""
    page.get_by_label(language).check()
    text = page.locator("#request-code").text_content() or ""
    program = ["bash", "-c"] if language == "curl" else [sys.executable, "-c"]
    return subprocess.run([*program, text], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_strip_says_what_the_answers_say_of_their_time(page: Page, server: Server) -> None:
    visit(page, server, "bend")
    expect(page.locator("#compute")).to_contain_text("ms")
    expect(page.locator("#trip")).to_contain_text("ms")
    # It counts two seconds only, so there is a new request whenever this looks.
    page.wait_for_function(
        """() => {
          document.querySelector("#bend-random").click();
          return document.querySelector("#per-second").textContent !== "0";
        }""",
        polling=250,
    )


def test_the_figures_of_a_model_are_those_of_its_contract(page: Page, server: Server) -> None:
    visit(page, server)
    use_model(page, "colour@1")
    use_model(page, "mnist-mlp@2")
    page.get_by_role("button", name="About it").click()
    expect(page.locator("#about-title")).to_have_text("mnist-mlp@2")
    metrics = page.evaluate("fetch('models/mnist-mlp').then(async (answer) => (await answer.json()).metrics)")
    shown = page.locator("#about-metrics dd").all_text_contents()
    assert [float(each) for each in shown] == list(metrics.values())
