"""Entity tags: a client that has an answer's content already is told so, with 304 (RFC 9110, section 13.1.2).

Compressed content has a tag of its own (section 8.8.3), which is made from that of the content.
"""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

from service.api.compression import accepted

# A cache may keep the answer, and asks each time whether it is still the content of its URL.
_REVALIDATE: Final = "no-cache"


def held(headers: Headers, tag: str) -> str | None:
    """The tag by which the If-None-Match of a request's headers names content with this tag, or None.

    It may be that of the content as it is or in any coding that the client takes: which of them is sent is up to the
    service. Weak tags count as strong, and * names any.
    """
    lines = ",".join(headers.getlist("if-none-match"))  # several are one list (RFC 9110, section 5.3)
    tags = {each.strip().removeprefix("W/") for each in lines.split(",")}
    codings = accepted(headers.get("accept-encoding", "").encode("latin-1")).codings
    own = (tag, *(coded(tag, coding) for coding in codings))
    return next((each for each in own if each in tags), tag if "*" in tags else None)


def coded(tag: str, coding: str) -> str:
    """The tag of content in a coding, from that of the content as it is."""
    return f'{tag[:-1]}-{coding}"'


def headers_of(tag: str) -> dict[str, str]:
    """The headers of an answer with this tag, be it 200 or 304."""
    return {"etag": tag, "cache-control": _REVALIDATE}


def json_response(headers: Headers, content: str) -> Response:
    """JSON for a request with these headers: 200, or 304 when the client has it already."""
    data = content.encode()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    vary = {"vary": "accept-encoding"}
    if (known := held(headers, tag)) is not None:
        return Response(status_code=304, headers=headers_of(known) | vary)
    return Response(data, headers=headers_of(tag) | vary, media_type="application/json")
