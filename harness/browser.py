"""Debian's Chromium, driven by Playwright, with a made-up camera."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from harness.servers import PATIENCE_SECONDS

PATIENCE_MS = PATIENCE_SECONDS * 1e3  # an upper limit: nothing waits for so long unless it has failed


@contextmanager
def chromium(program: str = "/usr/bin/chromium") -> Iterator[Browser]:
    """A running Chromium, until the block ends. Meanwhile no other event loop can run in this thread."""
    # Its sandbox does not work as root or in most containers. It opens nothing but our own pages.
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=PATIENCE_MS)
        yield browser
        browser.close()
