"""Files of the pages: each is read once, is compressed once, and is sent compressed to browsers that take that."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

from service.api import etags
from service.api.compression import accepted

# For a URL that changes when the content does.
IMMUTABLE: Final = "public, max-age=31536000, immutable"

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

_STORED: Final = ".gz"  # the suffix of files that are stored compressed


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of a page. `data` is compressed with gzip if `compressed`; `digest` is of the bytes in `data`."""

    media_type: str
    data: bytes
    compressed: bool
    digest: str

    @classmethod
    def read(cls, path: Path) -> PageFile:
        """A file in the form in which it is stored: NAME.gz is NAME, compressed. Raises OSError."""
        compressed = path.suffix == _STORED
        return cls._of(path.stem if compressed else path.name, path.read_bytes(), compressed)

    @classmethod
    def compress(cls, name: str, data: bytes) -> PageFile:
        """A file of this name that is sent compressed."""
        return cls._of(name, gzip.compress(data, mtime=0), compressed=True)

    @classmethod
    def _of(cls, name: str, data: bytes, compressed: bool) -> PageFile:
        return cls(_MEDIA_TYPES[PurePath(name).suffix], data, compressed, hashlib.sha256(data).hexdigest()[:16])

    def response(self, headers: Headers, cache_control: str = IMMUTABLE, *vary: str) -> Response:
        """The answer to a request with these headers: 200, or 304 when the client has the file already."""
        client = accepted(headers.get("accept-encoding", "").encode("latin-1"))
        as_gzip = self.compressed and "gzip" in client.codings and client.best is not None
        tag = f'"{self.digest}"'
        about = {
            "cache-control": cache_control,
            "etag": etags.coded(tag, "gzip") if as_gzip else tag,
            "x-content-type-options": "nosniff",
        }
        if names := [*vary, *(["accept-encoding"] if self.compressed else [])]:
            about["vary"] = ", ".join(names)
        if (known := etags.held(headers, tag)) is not None:
            return Response(status_code=304, headers=about | {"etag": known})
        if as_gzip:
            return Response(self.data, headers=about | {"content-encoding": "gzip"}, media_type=self.media_type)
        data = gzip.decompress(self.data) if self.compressed else self.data
        return Response(data, headers=about, media_type=self.media_type)
