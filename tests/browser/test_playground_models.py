"""The playground goes from one model to another: which it opens, and that nothing is left of the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from harness.playground import go, scored, set_range, settled, stroke, use_model, visit
from harness.servers import Server

SOME_PATH = [(0.3, 0.3), (0.6, 0.3), (0.5, 0.8)]


def hold(page: Page, url: str, *, images: int = 1) -> list[Route]:
    """Requests for so many images that wait for `let_go` from here on. Others go on."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        json: Any = {} if "?" in url else route.request.post_data_json
        if len(json.get("z", [0])) == images:
            held.append(route)
        else:
            route.continue_()

    page.route(url, keep)
    return held


def let_go(page: Page, url: str, held: list[Route]) -> None:
    """Let the requests go on that were held, and all that follow, and wait for the answer to the first."""
    page.route(url, lambda route: route.continue_())
    with page.expect_response(held[0].request.url):
        for route in held:
            route.continue_()


class TestWhichOne:
    @pytest.mark.parametrize(
        ("asked", "opened"),
        [("colour", "colour@1"), ("colour@1", "colour@1"), ("mnist-mlp", "mnist-mlp@2"), ("nothing", "mnist-mlp@2")],
    )
    def test_the_address_names_a_model_and_may_leave_out_its_version(
        self, page: Page, server: Server, asked: str, opened: str
    ) -> None:
        page.goto(f"{server.url}/?model={asked}")
        expect(page.locator("#main")).to_have_attribute("data-model", opened)
        expect(page.locator("#models")).to_have_value(opened)

    def test_a_name_means_its_highest_version(self, page: Page, server: Server) -> None:
        def many(route: Route) -> None:
            answer = route.fetch()
            versions = [{"id": f"colour@{version}"} for version in (2, 10, 9)]
            route.fulfill(response=answer, json={**answer.json(), "models": versions})

        page.route("**/models?*", many)
        page.route("**/models/colour*", lambda route: route.continue_(url=f"{server.url}/models/colour@1"))
        with page.expect_request("**/models/colour%4010"):
            page.goto(f"{server.url}/?model=colour")
        expect(page.locator("#main")).to_have_attribute("data-model", "colour@1")

    def test_a_model_that_is_gone_is_a_problem_and_the_one_before_stays(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        visit(page, server)
        page.route("**/models/colour*", lambda route: route.continue_(url=f"{server.url}/models/gone"))
        page.locator("#models").select_option("colour@1")
        expect(page.locator("#notice")).to_contain_text("There is no model 'gone'.")
        expect(page.locator("#models")).to_have_value("mnist-mlp@2")

    def test_a_first_model_that_is_gone_is_a_problem_that_stays_in_sight(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        page.route("**/models/mnist-mlp*", lambda route: route.continue_(url=f"{server.url}/models/gone"))
        page.goto(server.url)
        expect(page.locator("#notice")).to_contain_text("There is no model 'gone'.")

    def test_a_model_that_was_chosen_while_the_service_was_away_is_used_when_it_is_back(
        self, open_page: Callable[..., Page], server: Server
    ) -> None:
        page = open_page(failures=True)
        visit(page, server)
        page.route("**/models/colour*", lambda route: route.abort("connectionrefused"), times=1)
        page.locator("#models").select_option("colour@1")
        expect(page.locator("#main")).to_have_attribute("data-model", "colour@1")


class TestAnswersThatComeTooLate:
    def test_a_reconstruction_leaves_no_latents(self, page: Page, server: Server) -> None:
        visit(page, server)
        held = hold(page, "**/reconstruct?*")
        with page.expect_request("**/reconstruct?*mnist*"):
            stroke(page, "#pad", SOME_PATH)
        use_model(page, "colour@1")
        with page.expect_request("**/reconstruct?*colour*"):
            held[0].continue_()
        expect(page.locator("#bars .bar")).to_have_count(0)
        expect(page.locator("#draw-bend")).to_be_disabled()
        held[1].continue_()
        expect(page.locator("#bars .bar")).to_have_count(3)

    def test_a_score_leaves_no_numbers(self, page: Page, server: Server) -> None:
        visit(page, server)
        held = hold(page, "**/score")
        with page.expect_request("**/score"):
            stroke(page, "#pad", SOME_PATH)
        use_model(page, "colour@1")
        expect(page.locator("#verdict")).to_contain_text("no statistics")
        let_go(page, "**/score", held)
        scored(page)
        expect(page.locator("#verdict")).to_contain_text("no statistics")
        expect(page.locator("#typicality")).to_have_text("–")

    def test_a_walk_leaves_no_strip_and_the_next_one_is_not_asked_for(self, page: Page, server: Server) -> None:
        visit(page, server, "bend")
        caption = page.locator("#traverse-caption").text_content() or ""
        set_range(page, "#sliders .slider:nth-child(1) input", 1)
        expect(page.locator("#traverse")).to_be_visible()
        held = hold(page, "**/traverse")
        with page.expect_request("**/traverse"):
            for row in range(1, 21):
                set_range(page, f"#sliders .slider:nth-child({row}) input", 2)
        use_model(page, "colour@1")
        let_go(page, "**/traverse", held)
        settled(page, "bend")
        expect(page.locator("#traverse")).to_be_hidden()
        expect(page.locator("#traverse-caption")).to_have_text(caption)

    def test_samples_are_gone_as_soon_as_there_is_another_model(self, page: Page, server: Server) -> None:
        visit(page, server, "sample")
        held = hold(page, "**/sample")
        use_model(page, "colour@1")
        expect(page.locator("#samples img")).to_have_count(0)
        expect(page.locator("#sample-save")).to_be_disabled()
        let_go(page, "**/sample", held)
        settled(page, "sample")
        expect(page.locator("#samples img")).to_have_count(36)

    def test_a_new_end_of_a_morph_is_not_taken(self, page: Page, server: Server) -> None:
        visit(page, server, "morph")
        held = hold(page, "**/sample")
        with page.expect_request("**/sample"):
            page.get_by_role("button", name="New first").click()
        use_model(page, "colour@1")
        expect(page.locator("#morph-request")).to_be_disabled()
        let_go(page, "**/sample", held)
        settled(page, "morph")

    def test_a_path_on_the_map_is_not_played(self, page: Page, server: Server) -> None:
        visit(page, server, "map")
        held = hold(page, "**/decode", images=60)
        with page.expect_request(lambda request: len((request.post_data_json or {}).get("z", [])) == 60):
            stroke(page, "#plane", SOME_PATH)
        page.locator("#plane").press(" ")  # and another one begins
        use_model(page, "colour@1")
        let_go(page, "**/decode", held)
        go(page, "draw")
        go(page, "map")
        expect(page.locator("#along")).to_be_disabled()
        use_model(page, "mnist-mlp@2")
        settled(page, "map")
        expect(page.locator("#along")).to_be_disabled()
        page.locator("#plane").press(" ")
        expect(page.locator("#map-caption")).to_have_text("A path begins.")
