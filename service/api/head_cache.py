"""A cache of parsed request heads. A client sends the same head before each body of the same length.

Parsing a head, and working out what it asks for, takes time. Finding it here is one lookup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.api.request_head import RequestHead

# The most heads, and the most bytes of one: two megabytes of heads, and about six of parsed ones.
MOST: Final = 2048
LONGEST: Final = 1024

_END: Final = b"\r\n\r\n"

# Headers whose value is different in each request.
_ONCE: Final = frozenset({b"x-request-id", b"traceparent"})


class HeadCache:
    """Parsed heads by their bytes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._heads: dict[bytes, RequestHead] = {}

    def get(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The head and the body, if `data` is one whole request whose head is in the cache; else None."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        return (head, data[end:]) if head is not None and head.length == len(data) - end else None

    def add(self, data: bytes, head: RequestHead, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Add a head that the parser read from `data`: a POST of HTTP/1.1 to `url`; names of `headers` in lower case.

        Does nothing if `data` is not exactly this one request in its simplest spelling, or if the same head is unlikely
        to come again.
        """
        end = data.find(_END) + len(_END)
        if head.length != len(data) - end or end > LONGEST or not _ONCE.isdisjoint(head.headers):
            return
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        # Every byte of the head is one that the parser has reported, so the two cannot disagree about it.
        if data[:end].lower() == (b"POST %b HTTP/1.1\r\n%b\r\n" % (url, lines)).lower():
            if len(self._heads) >= MOST:
                self._heads.clear()
            self._heads[data[:end]] = head
