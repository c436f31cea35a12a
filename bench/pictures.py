"""The pictures of the playground: a screenshot of each tab, and an animation. The same each time but for the times."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page

from harness.playground import go, scored, set_range, settled, stroke, visit
from harness.servers import Server

SIZE: Final = {"width": 1120, "height": 850}
ANIMATED: Final = {"width": 960, "height": 850}
ANIMATION_WIDTH: Final = 640
FRAME_MS: Final = 110
PAUSE_MS: Final = 900
QUALITY: Final = 82
ANIMATED_QUALITY: Final = 50


def _arc(x: float, y: float, radius: float, begin: int, end: int) -> list[tuple[float, float]]:
    """Points on a circle from one angle to another, in degrees, clockwise from the right."""
    angles = [math.radians(angle) for angle in range(begin, end + 1, 15)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


# A three, as shares of the pad's sides.
THREE: Final = _arc(0.48, 0.34, 0.15, -150, 85) + _arc(0.48, 0.66, 0.17, -90, 145)

# A path on the map: past the labels 4, 9, 8, 3, and up to 0.
PATH: Final = [(0.26, 0.34), (0.36, 0.5), (0.5, 0.56), (0.66, 0.6), (0.7, 0.42), (0.64, 0.24)]


def write(browser: Browser, server: Server, folder: Path) -> None:
    """Write the pictures to a folder, as WebP files."""
    folder.mkdir(parents=True, exist_ok=True)
    for theme, tabs in (("light", ("draw", "morph", "sample")), ("dark", ("bend", "map"))):
        page = _page(browser, SIZE, theme)
        visit(page, server)
        stroke(page, "#pad", THREE)
        scored(page)
        for tab in tabs:
            _prepare(page, tab)
            _shot(page).save(folder / f"{tab}.webp", quality=QUALITY, method=6)
        page.context.close()
    page = _page(browser, ANIMATED, "light")
    frames, times = zip(*_scenes(page, server), strict=True)
    page.context.close()
    small = [_scaled(frame) for frame in frames]
    small[0].save(
        folder / "playground.webp",
        save_all=True,
        append_images=small[1:],
        duration=list(times),
        loop=0,
        quality=ANIMATED_QUALITY,
        method=6,
    )


def _page(browser: Browser, size: Any, theme: Any) -> Page:
    return browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce").new_page()


def _prepare(page: Page, tab: str) -> None:
    """Open a tab and do what shows it best."""
    if tab == "draw":
        return
    if tab == "bend":
        page.locator("#draw-bend").click()
        set_range(page, "#sliders .slider:first-child input", 1.5)
        page.locator("#traverse").wait_for()
    elif tab == "morph":
        page.locator("#draw-morph").click()
    else:
        go(page, tab)
    settled(page, tab)
    if tab == "map":
        stroke(page, "#plane", PATH)
        page.locator("#along:enabled").wait_for()
        set_range(page, "#along", 30)
    page.mouse.move(0, 0)
    page.wait_for_load_state("networkidle")


def _scenes(page: Page, server: Server) -> Iterator[tuple[Image.Image, int]]:
    """The frames of the animation, each with its time in milliseconds: draw, bend, map."""
    visit(page, server)
    yield _shot(page), PAUSE_MS
    box: Any = page.locator("#pad").bounding_box()
    for place, (x, y) in enumerate(THREE):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if place == 0:
            page.mouse.down()
        if place % 3 == 0:
            scored(page)
            yield _shot(page), FRAME_MS
    page.mouse.up()
    scored(page)
    yield _shot(page), PAUSE_MS
    page.locator("#draw-bend").click()
    settled(page, "bend")
    yield _shot(page), PAUSE_MS
    for value in (0.0, 0.6, 1.2, 1.8, 2.4, 1.8, 1.2, 0.6, 0.0, -0.6, -1.2, -1.8, -1.2, -0.6):
        set_range(page, "#sliders .slider:nth-child(2) input", value)
        page.wait_for_load_state("networkidle")
        yield _shot(page), FRAME_MS
    yield _shot(page), PAUSE_MS
    go(page, "map")
    settled(page, "map")
    yield _shot(page), FRAME_MS
    stroke(page, "#plane", PATH)
    page.locator("#along:enabled").wait_for()
    for step in range(0, 60, 4):
        set_range(page, "#along", step)
        yield _shot(page), FRAME_MS
    yield _shot(page), PAUSE_MS


def _shot(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _scaled(picture: Image.Image) -> Image.Image:
    height = round(picture.height * ANIMATION_WIDTH / picture.width)
    return picture.resize((ANIMATION_WIDTH, height), Image.Resampling.LANCZOS)
