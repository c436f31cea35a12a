"""The page /docs: Swagger UI on /openapi.json, from files of this package. It needs no other host."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.api import playground
from service.api.page_files import PageFile

_FOLDER: Final = Path(__file__).parent / "swagger_ui"

# The files of the page. It shares its look with the playground.
_FILES: Final = (
    playground.FOLDER / "icon.svg",
    playground.FOLDER / "look.css",
    playground.FOLDER / "theme.js",
    _FOLDER / "docs.css",
    _FOLDER / "start.js",
    _FOLDER / "swagger-ui-bundle.js.gz",
    _FOLDER / "swagger-ui.css.gz",
)

router = APIRouter(include_in_schema=False)


# Both endpoints are plain functions, so they run in a thread: reading and unpacking take milliseconds.


@router.get("/docs")
def docs_page(request: Request) -> Response:
    """The page."""
    return _page().response(request.headers, "no-cache")


@router.get("/docs/{name}")
def docs_file(request: Request, name: str) -> Response:
    """A file of the page."""
    file = _files().get(f"docs/{name}")
    if file is None:
        raise HTTPException(404)
    return file.response(request.headers)


@functools.cache
def _files() -> Mapping[str, PageFile]:
    """The files by their URLs, relative to /docs, which have a hash of the content in them."""
    files = {}
    for path in _FILES:
        file = PageFile.read(path)
        stem, _, suffix = path.name.removesuffix(".gz").rpartition(".")
        files[f"docs/{stem}.{file.digest}.{suffix}"] = file
    return files


@functools.cache
def _page() -> PageFile:
    html = (_FOLDER / "page.html").read_text("utf-8")
    for url in _files():
        stem, _, suffix = url.removeprefix("docs/").split(".")
        html = html.replace(f"{{{stem}.{suffix}}}", url)
    return PageFile.compress("page.html", html.encode())
