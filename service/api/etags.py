"""Entity tags: a client that has an answer's content already is told so, with 304 (RFC 9110, section 13.1.2)."""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

# A cache may keep the answer, and asks each time whether it is still the content of its URL.
_REVALIDATE: Final = "no-cache"


def has(headers: Headers, tag: str) -> bool:
    """Whether the If-None-Match of a request's headers names this tag. Weak tags count as strong, and * names any."""
    lines = ",".join(headers.getlist("if-none-match"))  # several are one list (RFC 9110, section 5.3)
    tags = {each.strip().removeprefix("W/") for each in lines.split(",")}
    return tag in tags or "*" in tags


def headers_of(tag: str) -> dict[str, str]:
    """The headers of an answer with this tag, be it 200 or 304."""
    return {"etag": tag, "cache-control": _REVALIDATE}


def json_response(headers: Headers, content: str) -> Response:
    """JSON for a request with these headers: 200, or 304 when the client has it already."""
    data = content.encode()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if has(headers, tag):
        return Response(status_code=304, headers=headers_of(tag))
    return Response(data, headers=headers_of(tag), media_type="application/json")
