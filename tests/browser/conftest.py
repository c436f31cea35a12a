"""A real Chromium, driven by Playwright.

`make browser` installs Debian's package. Without it these tests are skipped, or fail where REQUIRE_BROWSER is 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from harness.servers import PATIENCE_SECONDS, Server, running

PATIENCE_MS = PATIENCE_SECONDS * 1e3  # an upper limit: nothing waits for so long unless it has failed
NOT_INSTALLED = "Chromium is not installed. `make browser` installs it."


@pytest.fixture(scope="module")  # while it lasts, no other test can run an event loop in this thread
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(NOT_INSTALLED)
        pytest.skip(NOT_INSTALLED)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Its sandbox does not work as root or in most containers. It opens nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of the test's own. They run until the module's last test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path_factory.mktemp("server") / "log", **settings))


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server]) -> Server:
    """A server with default settings."""
    return serve()


@pytest.fixture(scope="module")
def server_with_key(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose one API key is `sesame`."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("sesame\n")
    return serve(api_keys_file=keys)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """An empty page. The test fails if it asks another host for anything, logs an error, or raises one."""
    wrong: list[str] = []
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)

    def only_here(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            wrong.append(f"asked for {route.request.url}")
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(f"logged: {message.text}")

    context.route("**/*", only_here)
    page = context.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(f"raised: {error}"))
    yield page
    context.close()
    assert wrong == []
