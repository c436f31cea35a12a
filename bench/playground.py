"""The playground in a real Chromium: how fast it is, and its pictures.

    python -m bench.playground                        prints the table of docs/playground.md; half a minute
    python -m bench.playground --pictures FOLDER      writes the screenshots and the animation; half a minute

Both start a service of their own. Times depend on what else the machine does, so run it on a quiet one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from playwright.sync_api import Page

from bench import pictures
from harness.browser import chromium
from harness.playground import draw_seven, visit
from harness.servers import Server, running

LOADS: Final = 10
STROKES: Final = 10
DRAG_SECONDS: Final = 5.0
POINTER_HZ: Final = 60.0  # how often a mouse or a finger moves

# Keep what the page measures from here on: from the movement of the pen that a reconstruction is of, until it shows.
_WATCH_STROKES: Final = """
() => {
  window.strokes = [];
  new PerformanceObserver((list) => window.strokes.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: "measure" });
}
"""

_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_BYTES: Final = """
["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
  .filter(({ name }) => !name.includes("/models")).reduce((sum, { transferSize }) => sum + transferSize, 0)
"""
_ANSWERS: Final = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/decode')).length"


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.playground", description="The playground in Chromium.")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write its pictures instead of measuring it")
    folder: Path | None = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as own, running(Path(own) / "log", models="") as server, chromium() as browser:
        if folder is not None:
            pictures.write(browser, server, folder)
            return
        paints, size = [], 0
        for _ in range(LOADS):
            page = browser.new_page()  # with an empty cache
            visit(page, server)
            page.wait_for_function(f"() => {_PAINT}")
            paints.append(float(page.evaluate(_PAINT)))
            size = page.evaluate(_BYTES)
            page.context.close()
        page = browser.new_page()
        strokes = _strokes(page, server)
        rate = _dragging(page, server)
    print("| | |\n|---|---|")
    print(f"| all files of the page, compressed, with their headers | {size / 1e3:.0f} kB |")
    print(f"| first paint, with an empty cache: median of {LOADS} | {median(paints):.0f} ms |")
    print(f"| from the pen to its reconstruction: median, and 95 of 100 | {_spread(strokes)} |")
    print(f"| answers a second while a slider is dragged, at {POINTER_HZ:.0f} movements a second | {rate:.0f} |")


def _strokes(page: Page, server: Server) -> list[float]:
    visit(page, server)
    page.evaluate(_WATCH_STROKES)
    for _ in range(STROKES):
        draw_seven(page)
        page.locator("#clear").click()
    found: list[float] = page.evaluate("window.strokes")
    return found


def _dragging(page: Page, server: Server) -> float:
    visit(page, server, "bend")
    page.evaluate("performance.setResourceTimingBufferSize(100000)")
    box: Any = page.locator("#sliders input").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    begun, before, moves = time.perf_counter(), page.evaluate(_ANSWERS), 0
    while (passed := time.perf_counter() - begun) < DRAG_SECONDS:
        if passed * POINTER_HZ < moves:
            time.sleep(moves / POINTER_HZ - passed)
        moves += 1
        page.mouse.move(box["x"] + box["width"] * (0.1 + 0.8 * (moves % 50) / 50), box["y"] + box["height"] / 2)
    answers: int = page.evaluate(_ANSWERS) - before
    page.mouse.up()
    return answers / passed


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{median(ordered):.0f} ms, {ordered[int(0.95 * len(ordered))]:.0f} ms"


if __name__ == "__main__":
    main()
