"""What was made of requests' heads: a client says the same before every body of the same length.

To parse a head and to find out what it asks for is work; to find it here is a lookup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.api.request_head import RequestHead

# Two megabytes of heads, and perhaps six of what was made of them.
MOST: Final = 2048
LONGEST: Final = 1024

_END: Final = b"\r\n\r\n"

# What a client says only once.
_ONCE: Final = frozenset({b"x-request-id", b"traceparent"})


class HeadCache:
    """The heads that are remembered, by their bytes, to the last one."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._heads: dict[bytes, RequestHead] = {}

    def get(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The head and the body, where `data` is one whole request with a head that is remembered; else None."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        return (head, data[end:]) if head is not None and head.length == len(data) - end else None

    def add(self, data: bytes, head: RequestHead, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember a head that a parser took for a POST of HTTP/1.1 to `url` with these `headers`, names in lower case.

        Not so where `data`, in which it came, is anything but that one request, written in the plainest way; nor where
        it would hardly come again.
        """
        end = data.find(_END) + len(_END)
        if head.length != len(data) - end or end > LONGEST or not _ONCE.isdisjoint(head.headers):
            return
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        # That the parser and this lookup agree is never a matter of opinion: every byte is accounted for.
        if data[:end].lower() == (b"POST %b HTTP/1.1\r\n%b\r\n" % (url, lines)).lower():
            if len(self._heads) >= MOST:
                self._heads.clear()
            self._heads[data[:end]] = head
