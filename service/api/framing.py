"""Where one request ends and the next begins (RFC 9112, section 6): cut what a connection reads into pieces.

A piece never reaches beyond the end of a head, or of a body of known length. So the parser, which cannot be stopped in
the middle of its input, is given one request at a time, and each byte of a head is counted as such.
"""

from __future__ import annotations

from typing import Final

_END: Final = b"\r\n\r\n"

# Bytes of framing allowed for each byte of a chunked body: a chunk of one byte takes five.
_OVERHEAD: Final = 8


class Framing:
    """The place of a connection's next byte.

    `between` two requests, in the head of one (`in_head`), or in a body: then `left` is the number of its bytes that
    are still to come, or None where it comes in chunks.
    """

    __slots__ = ("_body", "_others", "_tail", "_trailers", "between", "head_bytes", "in_head", "left")

    def __init__(self) -> None:
        """A connection begins between two requests."""
        self.left: int | None = 0
        self._tail = b""  # the last three bytes, where they may be part of the empty line that ends a head
        self.message_complete()

    @property
    def in_body(self) -> bool:
        """Whether the next byte is part of a body, or of what frames it."""
        return not (self.between or self.in_head)

    def message_begin(self) -> None:
        """The parser has met the first byte of a request."""
        self.between = False
        self.in_head = True

    def headers_complete(self, length: int | None) -> None:
        """The parser has met the end of a head; `length` is the body's in bytes, None for chunks."""
        self.in_head = False
        self.left = length

    def message_complete(self) -> None:
        """The parser has met the last byte of a request."""
        self.between = True
        self.in_head = False
        self.left = 0
        self.head_bytes = self._body = self._others = self._trailers = 0

    def body(self, count: int) -> None:
        """The parser has met `count` bytes of a body."""
        self._body += count

    def trailer(self, count: int) -> int:
        """The parser has met a trailer of `count` bytes; how many bytes this request's trailers have."""
        self._trailers += count + 4  # the colon, a space and the line's end
        return self._trailers

    def cut(self, data: bytes, start: int) -> int:
        """The end of the next piece of `data`, which begins at `start`; counts the piece."""
        if self.between or self.in_head:
            end = self._cut_head(data, start)
            self.head_bytes += end - start
        elif self.left is not None:
            end = min(len(data), start + self.left)
            self.left -= end - start
            self._tail = b""
        else:
            end = self._cut_head(data, start)  # at each empty line, where the body's end can be
            self._others += end - start
        return end

    def excess(self) -> int:
        """How many bytes of the request so far are neither its body nor the framing that a body needs.

        They are those of its head or, in a chunked body, sizes, extensions and trailers.
        """
        if self.between or self.in_head:
            return self.head_bytes
        return self._others - (1 + _OVERHEAD) * self._body

    def _cut_head(self, data: bytes, start: int) -> int:
        """Up to the next empty line, which may have begun in the read before."""
        if self._tail:
            found = (self._tail + data[start : start + 3]).find(_END)
            if found >= 0:
                end = start + found + len(_END) - len(self._tail)
                self._tail = b""
                return end
        found = data.find(_END, start)
        if found >= 0:
            self._tail = b""
            return found + len(_END)
        self._tail = (self._tail + data[max(start, len(data) - 3) :])[-3:]
        return len(data)
