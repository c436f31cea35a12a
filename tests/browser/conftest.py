"""A real Chromium, driven by Playwright.

`make browser` installs Debian's package. Without it these tests are skipped, or fail where REQUIRE_BROWSER is 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from harness.browser import PATIENCE_MS, chromium
from harness.paths import MODELS
from harness.servers import Server, running
from tests.bundles import write_bundle

NOT_INSTALLED = "Chromium is not installed. `make browser` installs it."


@pytest.fixture(scope="package", name="chromium")
def running_chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(NOT_INSTALLED)
        pytest.skip(NOT_INSTALLED)
    expect.set_options(timeout=PATIENCE_MS)
    with chromium(program) as browser:
        yield browser


@pytest.fixture(scope="package")
def serve(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers with settings of the test's own. They run until the last test in a browser."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            running(tmp_path_factory.mktemp("server") / "log", **({"models": ""} | settings))
        )


@pytest.fixture(scope="package")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, and `colour@1`: 16x12 pixels, 3 latents, without prior, statistics or map."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "mnist-mlp" / "2", models / "mnist-mlp" / "2")
    write_bundle(models, "colour", image_shape=(12, 16, 3))
    return models


@pytest.fixture(scope="package")
def server(serve: Callable[..., Server], models_dir: Path) -> Server:
    """A server with two models."""
    return serve(models_dir=models_dir)


@pytest.fixture(scope="package")
def server_with_key(serve: Callable[..., Server], models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose one API key is `sesame`, and that makes at most 63 images for a request."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("sesame\n")
    return serve(models_dir=models_dir, api_keys_file=keys, max_batch=63)


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open empty pages. The test fails if one asks another host for anything, logs an error, or raises one.

    With `failures` the browser may log that a request failed. Other options are those of a context.
    """
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(_watched(chromium, **options))


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """An empty page, for requests that succeed."""
    return open_page()


@contextmanager
def _watched(chromium: Browser, *, failures: bool = False, **options: Any) -> Iterator[Page]:
    wrong: list[str] = []
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)

    def only_here(route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            wrong.append(f"asked for {route.request.url}")
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not (failures and message.text.startswith("Failed to load resource:")):
            wrong.append(f"logged: {message.text}")

    context.route("**/*", only_here)
    page = context.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(f"raised: {error}"))
    yield page
    context.close()
    assert wrong == []
