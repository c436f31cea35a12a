"""The five tabs of the playground, with a mouse."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from harness.paths import DIGIT
from harness.playground import (
    brightness,
    changed,
    draw_seven,
    go,
    picture,
    same,
    scored,
    set_range,
    settled,
    stroke,
    use_model,
    visit,
)
from harness.servers import Server


def hand_over(page: Page, event: str) -> None:
    """Drop or paste a picture of a digit."""
    page.evaluate(
        """([name, base64]) => {
          const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
          const event = name === "drop"
            ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.querySelector("#pad").dispatchEvent(event);
        }""",
        [event, base64.b64encode(DIGIT.read_bytes()).decode()],
    )


class TestDraw:
    def test_a_stroke_becomes_what_the_model_sees_and_its_reconstruction(self, page: Page, server: Server) -> None:
        visit(page, server)
        assert brightness(page, "#again") == 0
        draw_seven(page)
        assert brightness(page, "#seen") > 10
        assert brightness(page, "#again") == pytest.approx(brightness(page, "#seen"), rel=0.5)
        for number in ("#distortion", "#rate", "#typicality"):
            assert float(page.locator(number).text_content() or "") > 0
        expect(page.locator("#bars .bar")).to_have_count(20)
        expect(page.locator("#bars")).to_have_attribute("aria-label", re.compile("Latent 19: "))

    def test_each_move_of_the_pen_is_reconstructed_until_it_is_undone(self, page: Page, server: Server) -> None:
        visit(page, server)
        expect(page.get_by_role("button", name="Undo")).to_be_disabled()
        draw_seven(page)
        seven = picture(page, "#again")
        stroke(page, "#pad", [(0.3, 0.55), (0.7, 0.55)])
        scored(page)
        assert picture(page, "#again") != seven
        page.get_by_role("button", name="Undo").click()
        same(page, "#again", seven)
        page.get_by_role("button", name="Clear").click()
        scored(page)
        expect(page.locator("#typicality")).to_have_text("–")
        assert brightness(page, "#again") == brightness(page, "#seen") == 0

    def test_a_picture_can_be_chosen_and_is_sent_as_it_is(self, page: Page, server: Server) -> None:
        visit(page, server)
        with page.expect_request("**/reconstruct?*") as sent:
            page.locator("#file").set_input_files(DIGIT)
        assert sent.value.post_data_buffer == DIGIT.read_bytes()
        expect(page.locator("#typicality")).to_have_text("0.90")  # as docs/score.md has it

    @pytest.mark.parametrize("event", ["drop", "paste"])
    def test_a_picture_can_be_dropped_or_pasted(self, page: Page, server: Server, event: str) -> None:
        visit(page, server)
        hand_over(page, event)
        expect(page.locator("#typicality")).to_have_text("0.90")

    def test_undo_and_a_picture_lift_the_pen(self, page: Page, server: Server) -> None:
        visit(page, server)
        page.locator("#pad").focus()
        for key in (" ", "ArrowLeft", "Control+z", "ArrowLeft"):
            page.keyboard.press(key)
        expect(page.locator("#undo")).to_be_disabled()
        page.keyboard.press(" ")
        hand_over(page, "drop")
        expect(page.locator("#typicality")).to_have_text("0.90")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Control+z")
        expect(page.locator("#undo")).to_be_disabled()

    def test_a_picture_that_comes_before_the_model_waits_for_it(self, page: Page, server: Server) -> None:
        held: list[Route] = []
        page.route("**/models/mnist-mlp*", lambda route: held.append(route))
        with page.expect_request("**/models/mnist-mlp*"):
            page.goto(server.url)
        hand_over(page, "drop")
        expect(page.locator("#undo")).to_be_enabled()
        held[0].continue_()
        expect(page.locator("#typicality")).to_have_text("0.90")

    def test_a_picture_can_be_taken_with_the_camera_which_is_then_off(self, page: Page, server: Server) -> None:
        """Chromium's made-up camera shows a pie on green, which is no digit."""
        visit(page, server)
        page.get_by_role("button", name="Camera").click()
        page.get_by_role("button", name="Take the picture").click()
        expect(page.locator("#draw-bend")).to_be_enabled()
        expect(page.locator("#shot")).to_be_hidden()
        assert page.locator("#video").evaluate("video => video.srcObject") is None


class TestBend:
    def test_a_slider_changes_pixels_and_reset_brings_them_back(self, page: Page, server: Server) -> None:
        visit(page, server, "bend")
        before = picture(page, "#bent")
        first = "#sliders .slider:first-child input"
        at_first = page.locator(first).input_value()
        set_range(page, first, 3)
        changed(page, "#bent", before)
        expect(page.locator("#traverse")).to_be_visible()
        page.get_by_role("button", name="Reset").click()
        same(page, "#bent", before)
        assert page.locator(first).input_value() == at_first

    def test_the_busiest_latent_comes_first(self, page: Page, server: Server) -> None:
        visit(page, server, "bend")
        latents = page.evaluate("fetch('models/mnist-mlp').then(async (answer) => (await answer.json()).latents)")
        shown = page.locator("#sliders .slider span").all_text_contents()
        assert shown == [f"z{latent['index']}" for latent in latents]
        assert latents[0]["rate"] > latents[-1]["rate"]

    def test_a_drawing_can_be_bent_and_copied(self, open_page: Callable[..., Page], server: Server) -> None:
        page = open_page(permissions=["clipboard-read", "clipboard-write"])
        visit(page, server)
        draw_seven(page)
        drawn = picture(page, "#again")
        page.locator("#draw-bend").click()
        same(page, "#bent", drawn)
        page.get_by_role("button", name="Copy JSON").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied: Any = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
        assert copied["model"] == "mnist-mlp@2"
        assert [len(z) for z in copied["z"]] == [20]


class TestSample:
    def test_a_seed_gives_the_same_images_again(self, page: Page, server: Server) -> None:
        def images() -> list[str]:
            sources: list[str] = page.locator("#samples img").evaluate_all("all => all.map((image) => image.src)")
            return sources

        visit(page, server, "sample")
        first = images()
        assert len(first) == 36
        page.get_by_role("button", name="Next seed").click()
        expect(page.locator("#samples img").first).not_to_have_attribute("src", first[0])
        assert set(images()).isdisjoint(first)
        page.get_by_label("Seed").fill("1")
        expect(page.locator("#samples img").first).to_have_attribute("src", first[0])
        assert images() == first

    def test_a_label_is_drawn_from_its_part_of_the_prior(self, page: Page, server: Server) -> None:
        def sent_by(field: str, choice: str) -> Any:
            with page.expect_request("**/sample") as sent:
                page.get_by_label(field).select_option(choice)
            return sent.value.post_data_json

        visit(page, server, "sample")
        request = sent_by("Label", "7")
        assert (request["label"], request["prior"]) == (7, "aggregate")
        assert "label" not in sent_by("Prior", "normal")
        expect(page.get_by_label("Label")).to_be_disabled()

    def test_they_can_be_sharper(self, page: Page, server: Server) -> None:
        visit(page, server, "sample")
        with page.expect_request("**/sample") as sent:
            page.get_by_role("slider", name="Sharpness").fill("1.5")
        asked: Any = sent.value.post_data_json
        assert asked["sharpness"] == 1.5
        expect(page.locator("#contrast")).to_have_text("1.50")

    def test_one_of_them_can_be_bent(self, page: Page, server: Server) -> None:
        visit(page, server, "sample")
        page.get_by_role("button", name="Sample 3: bend it").click()
        expect(page.locator("#panel-bend")).to_be_visible()
        settled(page, "bend")

    def test_the_grid_can_be_saved_as_a_png(self, page: Page, server: Server) -> None:
        visit(page, server, "sample")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save PNG").click()
        assert saved.value.suggested_filename == "mnist-mlp-seed-1.png"
        assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


class TestMorph:
    def test_the_scrubber_goes_from_the_first_image_to_the_second(self, page: Page, server: Server) -> None:
        visit(page, server, "morph")
        first, second, between = picture(page, "#end-a"), picture(page, "#end-b"), picture(page, "#between")
        assert len({first, second, between}) == 3
        set_range(page, "#scrub", 0)
        assert picture(page, "#between") == first
        set_range(page, "#scrub", 48)
        assert picture(page, "#between") == second

    def test_the_spherical_path_is_another(self, page: Page, server: Server) -> None:
        visit(page, server, "morph")
        linear = picture(page, "#between")
        page.get_by_label("spherical").check()
        changed(page, "#between", linear)

    def test_it_plays_until_it_is_paused_and_begins_with_a_drawing(self, page: Page, server: Server) -> None:
        visit(page, server)
        draw_seven(page)
        drawn = picture(page, "#again")
        page.get_by_role("button", name="Morph it").click()
        same(page, "#end-a", drawn)
        shown = picture(page, "#between")
        page.get_by_role("button", name="Play").click()
        changed(page, "#between", shown)
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
        at = page.locator("#between").get_attribute("aria-label")
        page.locator("#morph-bend").click()
        expect(page.locator("#panel-bend")).to_be_visible()
        assert at == page.locator("#between").get_attribute("aria-label")


class TestMap:
    def test_hover_shows_a_test_image_and_a_click_decodes_the_place(self, page: Page, server: Server) -> None:
        visit(page, server, "map")
        expect(page.locator("#legend span")).to_have_text([str(label) for label in range(10)])
        first = picture(page, "#there")
        box: Any = page.locator("#plane").bounding_box()
        page.locator("#plane").hover(position={"x": box["width"] * 0.45, "y": box["height"] * 0.8})
        changed(page, "#there", first)
        expect(page.locator("#map-caption")).to_contain_text("A test image of label")
        shown = picture(page, "#there")
        page.locator("#plane").click(position={"x": box["width"] * 0.02, "y": box["height"] * 0.02})
        expect(page.locator("#map-caption")).to_contain_text("The place")
        changed(page, "#there", shown)

    def test_a_path_is_decoded_and_played(self, page: Page, server: Server) -> None:
        visit(page, server, "map")
        shown = picture(page, "#there")
        stroke(page, "#plane", [(0.3, 0.3), (0.6, 0.3), (0.5, 0.8)])
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        changed(page, "#there", shown)
        page.get_by_role("button", name="Pause").click()
        set_range(page, "#along", 0)
        start = picture(page, "#there")
        set_range(page, "#along", 59)
        assert picture(page, "#there") != start
        page.locator("#map-bend").click()
        expect(page.locator("#panel-bend")).to_be_visible()

    def test_a_place_and_its_latent_are_each_other_s(self, page: Page, server: Server) -> None:
        visit(page, server, "map")
        apart = page.evaluate(
            """async () => {
              const { Plane, evenly } = await import(document.querySelector('link[href$="plane.js"]').href);
              const plane = new Plane(await (await fetch("models/mnist-mlp@2/files/map.json")).json());
              const [x, y] = plane.place(plane.latent(0.7, -0.4));
              const { point, distance } = plane.nearest(plane.points[7].x, plane.points[7].y);
              const path = evenly([[0, 0], [1, 0], [1, 3]], 5);
              return [x - 0.7, y + 0.4, distance, point === plane.points[7], path];
            }"""
        )
        assert apart[:3] == pytest.approx([0, 0, 0], abs=1e-3)
        assert apart[3:] == [True, [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]]]


class TestOtherModels:
    def test_a_colour_model_of_another_size_is_drawn_in_colour(self, page: Page, server: Server) -> None:
        visit(page, server)
        use_model(page, "colour@1")
        expect(page.get_by_label("Pen")).to_be_visible()
        page.get_by_label("Pen").fill("#ff0000")
        stroke(page, "#pad", [(0.3, 0.25), (0.7, 0.6)])
        scored(page)
        expect(page.locator("#verdict")).to_contain_text("no statistics")
        assert page.locator("#seen").evaluate("canvas => [canvas.width, canvas.height]") == [16, 12]
        red, green = page.locator("#seen").evaluate(
            """canvas => {
              const { data } = canvas.getContext("2d").getImageData(0, 0, 16, 12);
              const sum = (part) => data.reduce((sum, value, index) => sum + (index % 4 === part ? value : 0), 0);
              return [sum(0), sum(1)];
            }"""
        )
        assert red > 0
        assert green == 0

    def test_a_model_without_prior_statistics_or_map_works_as_far_as_it_can(self, page: Page, server: Server) -> None:
        visit(page, server)
        use_model(page, "colour@1")
        go(page, "bend")
        settled(page, "bend")
        expect(page.locator("#sliders .slider")).to_have_count(3)
        go(page, "sample")
        settled(page, "sample")
        expect(page.get_by_label("Label")).to_be_disabled()
        go(page, "morph")
        settled(page, "morph")
        go(page, "map")
        expect(page.locator("#map-lead")).to_contain_text("colour@1 has no map.")
