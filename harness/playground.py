"""What tests of the playground do with the page."""

from __future__ import annotations

import re
from typing import Any, Final

from playwright.sync_api import Page, expect

from harness.servers import Server

TABS: Final = ("draw", "bend", "sample", "morph", "map")


def visit(page: Page, server: Server, tab: str = "draw") -> None:
    """Open a tab of the playground, and wait until it has its model."""
    page.goto(f"{server.url}/#{tab}")
    expect(page.locator("#main")).to_have_attribute("data-model", re.compile("@"))
    settled(page, tab)


def settled(page: Page, tab: str) -> None:
    """Wait until a tab that was opened shows a picture. An empty pad has none."""
    shown = {"bend": "#bend-request", "sample": "#sample-request", "morph": "#morph-request", "map": "#map-request"}
    if tab in shown:
        expect(page.locator(shown[tab])).to_be_enabled()


def go(page: Page, tab: str) -> None:
    """Click on a tab."""
    page.locator(f"#tab-{tab}").click()
    expect(page.locator(f"#panel-{tab}")).to_be_visible()


def use_model(page: Page, name: str) -> None:
    """Choose another model, `name@version`, and wait until the page uses it."""
    page.locator("#models").select_option(name)
    expect(page.locator("#main")).to_have_attribute("data-model", name)


def draw_seven(page: Page) -> None:
    """Draw a seven, and wait for what the model says of it."""
    stroke(page, "#pad", [(0.3, 0.25), (0.7, 0.25), (0.45, 0.8)])
    scored(page)


def scored(page: Page) -> None:
    """Wait until all that is shown is of what is on the pad now."""
    expect(page.locator(".seen")).to_have_attribute("aria-busy", "false")


def stroke(page: Page, canvas: str, points: list[tuple[float, float]]) -> None:
    """Press the mouse at the first point and drag it along the others. They are shares of a canvas's sides."""
    page.locator(canvas).scroll_into_view_if_needed()
    box: Any = page.locator(canvas).bounding_box()
    for place, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=1 if place == 0 else 8)
        if place == 0:
            page.mouse.down()
    page.mouse.up()


def picture(page: Page, canvas: str) -> str:
    """What a canvas shows, as a URL of its pixels."""
    url: str = page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
    return url


def same(page: Page, canvas: str, before: str) -> None:
    """Wait until a canvas shows this."""
    page.wait_for_function(
        "([canvas, before]) => document.querySelector(canvas).toDataURL() === before", arg=[canvas, before]
    )


def changed(page: Page, canvas: str, before: str) -> None:
    """Wait until a canvas shows something else."""
    page.wait_for_function(
        "([canvas, before]) => document.querySelector(canvas).toDataURL() !== before", arg=[canvas, before]
    )


def brightness(page: Page, canvas: str) -> float:
    """The mean grey level of a canvas."""
    level: float = page.locator(canvas).evaluate(
        """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.reduce((sum, value, index) => sum + (index % 4 === 3 ? 0 : value), 0) / (data.length * 3 / 4);
        }"""
    )
    return level


def set_range(page: Page, slider: str, value: float) -> None:
    """Move a slider, as a drag does."""
    page.locator(slider).evaluate(
        """(slider, value) => {
          slider.value = value;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          slider.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        value,
    )
