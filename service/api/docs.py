"""The page /docs: Swagger UI on /openapi.json, from files of this package. It needs no other host."""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.api import etags
from service.api.compression import accepted

_FOLDER: Final = Path(__file__).parent / "swagger_ui"

# The files of the page, and their media types. Those in `_COMPRESSED` are stored as NAME.gz.
_MEDIA_TYPES: Final = {
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_COMPRESSED: Final = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page. `data` is compressed with gzip if `compressed`. `url` is relative to /docs, with a hash."""

    url: str
    media_type: str
    data: bytes
    digest: str
    compressed: bool

    def response(self, headers: Headers) -> Response:
        """The answer to a request with these headers: 200, or 304 when the client has the file already."""
        client = accepted(headers.get("accept-encoding", "").encode("latin-1"))
        as_gzip = self.compressed and "gzip" in client.codings and client.best is not None
        tag = f'"{self.digest}"'
        about = {
            "cache-control": "public, max-age=31536000, immutable",  # the URL changes when the content does
            "etag": etags.coded(tag, "gzip") if as_gzip else tag,
            "x-content-type-options": "nosniff",
        }
        if self.compressed:
            about["vary"] = "accept-encoding"
        if (known := etags.held(headers, tag)) is not None:
            return Response(status_code=304, headers=about | {"etag": known})
        if as_gzip:
            return Response(self.data, headers=about | {"content-encoding": "gzip"}, media_type=self.media_type)
        data = gzip.decompress(self.data) if self.compressed else self.data
        return Response(data, headers=about, media_type=self.media_type)


# Both endpoints are plain functions, so they run in a thread: reading and unpacking take milliseconds.


@router.get("/docs")
def docs_page() -> Response:
    """The page."""
    return HTMLResponse(_html(), headers={"cache-control": "no-cache"})


@router.get("/docs/{name}")
def docs_file(request: Request, name: str) -> Response:
    """A file of the page."""
    for file in _files().values():
        if file.url == f"docs/{name}":
            return file.response(request.headers)
    raise HTTPException(404)


@functools.cache
def _files() -> Mapping[str, PageFile]:
    return {name: _read(name, media_type) for name, media_type in _MEDIA_TYPES.items()}


def _read(name: str, media_type: str) -> PageFile:
    compressed = name in _COMPRESSED
    data = (_FOLDER / (f"{name}.gz" if compressed else name)).read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    stem, _, suffix = name.rpartition(".")
    return PageFile(f"docs/{stem}.{digest}.{suffix}", media_type, data, digest, compressed)


@functools.cache
def _html() -> str:
    html = (_FOLDER / "page.html").read_text("utf-8")
    for name, file in _files().items():
        html = html.replace(f"{{{name}}}", file.url)
    return html
