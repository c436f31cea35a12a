"""The playground for everybody: by keys, on small screens, with a screen reader, in both themes (WCAG 2.2 AA)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from harness.playground import TABS, brightness, changed, draw_seven, go, picture, scored, settled, visit
from harness.servers import Server

LEAST_TARGET = 24  # pixels: WCAG 2.2, 2.5.8

# Everything that can be clicked and is in sight, and is smaller than that.
SMALL_TARGETS = """
least => [...document.querySelectorAll("a, button, input, select, summary, [tabindex='0']")]
  .filter((element) => element.checkVisibility() && element.className !== "skip" && element.id !== "main")
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, { width, height }]) => Math.min(width, height) < least)
  .map(([element, { width, height }]) => `${element.outerHTML.slice(0, 80)} ${width}x${height}`)
"""

# Where the keyboard is: the element, and whether its focus can be seen.
FOCUSED = """
() => {
  const element = document.activeElement;
  const { top, left } = element.getBoundingClientRect();
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const seen = outlineStyle !== "none" && outlineWidth !== "0px";
  return { name: element.id || element.textContent.trim(), top, left, seen };
}
"""

# Each layout shift: how large it is, and which elements have moved from where to where.
SHIFTS = """
() => new Promise((resolve) => {
  const place = ({ x, y, width, height }) => `${x},${y} ${width}x${height}`;
  const moved = ({ node, previousRect, currentRect }) =>
    `${node?.cloneNode().outerHTML}: ${place(previousRect)} -> ${place(currentRect)}`;
  new PerformanceObserver((list) =>
    resolve(list.getEntries().map(({ value, sources }) => ({ value, moved: sources.map(moved) }))),
  ).observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => resolve([])));
})
"""


def violations(page: Page, options: dict[str, Any] | None = None) -> list[str]:
    """What axe-core finds: the rules that are broken, each with the first element that breaks it."""
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found]


@pytest.mark.parametrize(
    ("theme", "options"),
    [("light", None), ("dark", {"runOnly": ["color-contrast"]})],  # nothing else of a page depends on its theme
)
def test_axe_finds_nothing_in_any_tab_or_dialog(
    open_page: Callable[..., Page], server: Server, theme: str, options: dict[str, Any] | None
) -> None:
    page = open_page(color_scheme=theme, reduced_motion="reduce")
    visit(page, server)
    draw_seven(page)
    for tab in TABS:
        go(page, tab)
        settled(page, tab)
        assert violations(page, options) == [], tab
    for opens in ("#about-open", "#map-request"):
        page.locator(opens).click()
        assert violations(page, options) == [], opens
        page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut_off_too_small_or_moves(open_page: Callable[..., Page], server: Server, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 780})
    visit(page, server)
    for tab in TABS:
        go(page, tab)
        settled(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        assert page.evaluate(SMALL_TARGETS, LEAST_TARGET) == [], tab
    shifts = page.evaluate(SHIFTS)
    assert sum(shift["value"] for shift in shifts) < 0.001, shifts


def test_the_keyboard_reaches_everything_in_the_order_of_the_page_and_is_always_seen(
    page: Page, server: Server
) -> None:
    visit(page, server)
    draw_seven(page)
    page.locator(".skip").focus()
    met: list[dict[str, Any]] = [page.evaluate(FOCUSED)]
    while met[-1]["name"] != "draw-request":
        page.keyboard.press("Tab")
        met.append(page.evaluate(FOCUSED))
    names = [each["name"] for each in met]
    assert names == [
        *("Skip to the page", "models", "about-open", "API", "Theme: auto", "tab-draw"),
        *("pad", "undo", "clear", "choose", "camera", "preprocess", "draw-bend", "draw-morph", "draw-request"),
    ]
    assert all(each["seen"] for each in met[1:]), met  # the first was not reached by a key
    assert all(each["top"] >= 0 for each in met)


def test_a_digit_is_drawn_bent_and_walked_to_with_keys_alone(page: Page, server: Server) -> None:
    visit(page, server)
    page.locator("#tab-draw").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#pad")).to_be_focused()
    press(page, "ArrowUp", 7)
    press(page, "ArrowLeft", 5)
    page.keyboard.press(" ")
    expect(page.locator("#draw-status")).to_have_text("Pen down.")
    press(page, "ArrowRight", 9)
    press(page, "ArrowDown", 14)
    scored(page)
    assert brightness(page, "#seen") > 10
    drawn = picture(page, "#again")
    page.keyboard.press("Control+z")
    scored(page)
    expect(page.locator("#typicality")).to_have_text("–")
    page.keyboard.press(" ")
    press(page, "ArrowLeft", 9)
    expect(page.locator("#typicality")).not_to_have_text("–")
    scored(page)
    assert picture(page, "#again") != drawn

    page.locator("#tab-draw").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-bend")).to_be_focused()
    settled(page, "bend")
    before = picture(page, "#bent")
    page.locator("#sliders input").first.focus()
    press(page, "ArrowRight", 20)
    changed(page, "#bent", before)

    page.locator("#tab-bend").focus()
    page.keyboard.press("End")
    expect(page.locator("#tab-map")).to_be_focused()
    settled(page, "map")
    page.keyboard.press("Tab")
    expect(page.locator("#plane")).to_be_focused()
    press(page, "ArrowLeft", 3)
    page.keyboard.press("Enter")
    expect(page.locator("#map-caption")).to_contain_text("The place")
    page.keyboard.press(" ")
    expect(page.locator("#map-caption")).to_have_text("A path begins.")
    page.keyboard.press("Enter")  # which drops the path
    expect(page.locator("#map-caption")).to_contain_text("The place")
    page.keyboard.press(" ")
    expect(page.locator("#map-caption")).to_have_text("A path begins.")
    press(page, "ArrowRight", 6)
    page.keyboard.press(" ")
    expect(page.locator("#along")).to_be_enabled()
    page.keyboard.press("Home")  # of the page, not of the tabs
    expect(page.locator("#plane")).to_be_focused()


def test_with_reduced_motion_nothing_plays_by_itself(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page(reduced_motion="reduce")
    visit(page, server, "map")
    page.locator("#plane").focus()
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        page.keyboard.press(key)
    expect(page.locator("#along")).to_be_enabled()
    expect(page.get_by_role("button", name="Play the path")).to_have_attribute("aria-pressed", "false")


def test_what_the_model_says_is_announced(page: Page, server: Server) -> None:
    visit(page, server)
    draw_seven(page)
    expect(page.locator("#draw-status")).to_contain_text("typicality")


def test_what_the_pen_does_is_announced_in_place_of_what_was_about_to_be(page: Page, server: Server) -> None:
    page.clock.install()
    page.route("**/reconstruct?*", lambda _: None)  # no answer, and so nothing of it to say
    visit(page, server)
    page.locator("#pad").press(" ")
    page.clock.run_for(1000)
    expect(page.locator("#draw-status")).to_have_text("Pen down.")


def test_the_theme_is_kept_and_is_that_of_the_documentation_too(page: Page, server: Server) -> None:
    def ground() -> str:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour

    visit(page, server)
    light = ground()
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    theme.click()
    expect(theme).to_have_text("Theme: dark")
    dark = ground()
    assert dark != light
    page.reload()
    assert ground() == dark
    page.get_by_role("link", name="API").click()
    expect(page.locator(".info .title")).to_be_visible()
    assert ground() == dark
    page.get_by_role("link", name="Playground").click()
    expect(page.locator("#pad")).to_be_visible()
    assert ground() == dark


def press(page: Page, key: str, times: int) -> None:
    for _ in range(times):
        page.keyboard.press(key)
