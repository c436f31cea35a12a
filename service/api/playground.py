"""The page at /, with its files from `service/playground/`; for tools that ask for JSON, an index of the routes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.api import etags
from service.api.answers import negotiate
from service.api.page_files import PageFile
from service.api.request_head import JSON
from service.api.state import AppState

FOLDER: Final = Path(__file__).parents[1] / "playground"

_PAGE: Final = "page.html"
_HTML: Final = "text/html"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Playground:
    """The page, and its files by their names. All of them have URLs below playground/DIGEST/."""

    page: PageFile
    files: Mapping[str, PageFile]
    digest: str

    @classmethod
    def read(cls) -> Playground:
        """Read and compress the files. The digest is of all of them, so modules import each other by plain names."""
        contents = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.is_file()}
        digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
        place = f"playground/{digest}"
        # Else the browser finds modules one after the other, each in the text of another. What paints comes first.
        modules = [name for name in contents if name.endswith(".js") and name != "theme.js"]
        ahead = "\n".join(f'<link rel="modulepreload" fetchpriority="low" href="{place}/{name}">' for name in modules)
        html = contents.pop(_PAGE).decode().replace("{files}", place).replace("{modules}", ahead)
        files = {name: PageFile.compress(name, data) for name, data in contents.items()}
        return cls(PageFile.compress(_PAGE, html.encode()), files, digest)


@functools.cache
def _playground() -> Playground:
    return Playground.read()


# These endpoints are plain functions, so they run in a thread: reading and compressing take milliseconds.


@router.get("/")
def root(request: Request) -> Response:
    """The page for a browser, unless VAE_PLAYGROUND is false; else the index."""
    state: AppState = request.state.app_state
    offered = (JSON, _HTML) if state.settings.playground else (JSON,)
    if negotiate(request.headers.get("accept", "").encode(), offered) == _HTML:
        return _playground().page.response(request.headers, "no-cache", "accept")
    response = etags.json_response(request.headers, orjson.dumps(_index(request.app)).decode())
    response.headers["vary"] = "accept"
    return response


@router.get("/playground/{digest}/{name}")
def playground_file(request: Request, digest: str, name: str) -> Response:
    """A file of the page."""
    state: AppState = request.state.app_state
    if state.settings.playground:
        playground = _playground()
        if digest == playground.digest and name in playground.files:
            return playground.files[name].response(request.headers)
    raise HTTPException(404)


def _index(app: FastAPI) -> dict[str, object]:
    """What the service is, and its routes with a line about each."""
    document = app.openapi()
    return {
        "title": document["info"]["title"],
        "version": document["info"]["version"],
        "documentation": "docs",
        "openapi": "openapi.json",
        "routes": {
            f"{method.upper()} {path}": operation["summary"]
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        },
    }
