"""The bodies of streams, piece by piece: lines of JSON, or the parts of a multipart form, become items.

Nothing here knows how many items there are. What is kept is the item that has begun, up to the limit of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from service.errors import Fault, InvalidInput, LimitExceeded

# An item as an object, without its data.
ITEM_BYTES: Final = 256

# Up to so many lines, or bytes of a form, a piece of a body is cut into items at once.
_QUICK_LINES: Final = 1024
_QUICK_BYTES: Final = 16 * 1024


@dataclass(slots=True)
class Item:
    """One image as it came: a line of JSON, or the file of a part.

    `number` is that of the line or of the part, from 1. `name` is the part's file name, where it has one. `error` says
    why there is no `data`.
    """

    number: int
    data: bytes
    name: str | None = None
    error: LimitExceeded | None = None

    @property
    def size(self) -> int:
        """The bytes that it takes in memory."""
        return ITEM_BYTES + len(self.data)


class Items(Protocol):
    """A body that arrives. `failure` is set when it broke its own format; the items before that are good."""

    failure: Exception | None

    @property
    def held(self) -> int:
        """How many bytes of an item that has begun are kept."""

    def is_quick(self, data: bytes) -> bool:
        """Whether to feed this piece takes little longer than to copy it."""

    def feed(self, data: bytes) -> list[Item]:
        """Take the next piece of the body. The items that end in it."""

    def end(self) -> list[Item]:
        """The body is over. The item that ends with it, if there is one."""


class Lines:
    """Newline-delimited JSON: an item is a line. Empty lines are counted, and are no items."""

    failure: Exception | None = None

    def __init__(self, most: int) -> None:
        """A line may have `most` bytes."""
        self._most = most
        self._number = 0
        self._begun = bytearray()
        self._is_long = False  # the line that has begun has too many bytes, and they are dropped

    @property
    def held(self) -> int:  # noqa: D102  # those of Items, as all below
        return len(self._begun)

    def is_quick(self, data: bytes) -> bool:  # noqa: D102
        return data.count(b"\n") <= _QUICK_LINES

    def feed(self, data: bytes) -> list[Item]:  # noqa: D102
        first, *others = data.split(b"\n")
        self._add(first)
        if not others:
            return []
        *whole, last = others
        items = self.end()
        for line in whole:
            self._number += 1
            if line and not line.isspace():
                items.append(self._item(line, is_long=len(line) > self._most))
        self._add(last)
        return items

    def end(self) -> list[Item]:  # noqa: D102
        line, is_long = bytes(self._begun), self._is_long
        self._begun = bytearray()
        self._is_long = False
        self._number += 1
        return [self._item(line, is_long=is_long)] if is_long or (line and not line.isspace()) else []

    def _add(self, data: bytes) -> None:
        if self._is_long or len(self._begun) + len(data) > self._most:
            self._is_long = True
            self._begun = bytearray()
        else:
            self._begun += data

    def _item(self, line: bytes, *, is_long: bool) -> Item:
        return too_long(self._number, self._most, "line") if is_long else Item(self._number, line)


class Parts:
    """A multipart form (RFC 7578): an item is a part with the name `images`. Any other part is a failure."""

    def __init__(self, parameters: Mapping[bytes, bytes], most: int) -> None:
        """`parameters` are those of the Content-Type. A part may have `most` bytes. Raises HTTPException (400)."""
        self.failure: Exception | None = None
        self._most = most
        self._number = 0
        self._items: list[Item] = []
        self._begun = bytearray()
        self._is_long = self._ended = False
        self._header = self._value = b""
        self._disposition = b""
        try:
            if b"boundary" not in parameters:
                raise FormParserError
            self._parser = MultipartParser(
                parameters[b"boundary"],
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _broken() from error

    @property
    def held(self) -> int:  # noqa: D102
        return len(self._begun)

    def is_quick(self, data: bytes) -> bool:  # noqa: D102
        return len(data) <= _QUICK_BYTES

    def feed(self, data: bytes) -> list[Item]:  # noqa: D102
        if self.failure is None:
            try:
                self._parser.write(data)
            except FormParserError:
                self.failure = _broken()
            except InvalidInput as error:
                self.failure = error
        items, self._items = self._items, []
        return items

    def end(self) -> list[Item]:  # noqa: D102
        if self.failure is None and not self._ended:
            self.failure = HTTPException(400, "The multipart body ends before its closing boundary.")
        return []

    def _on_part_begin(self) -> None:
        self._number += 1
        self._disposition = b""
        self._name: str | None = None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        field = parameters.get(b"name", b"").decode("utf-8", "replace")
        if field != "images":
            raise InvalidInput([Fault((field,), "In a stream pictures are in `images`, and options in the query.")])
        if b"filename" in parameters:
            self._name = parameters[b"filename"].decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_long or len(self._begun) + end - start > self._most:
            self._is_long = True
            self._begun = bytearray()
        else:
            self._begun += data[start:end]

    def _on_part_end(self) -> None:
        item = too_long(self._number, self._most, "part") if self._is_long else Item(self._number, bytes(self._begun))
        item.name = self._name
        self._items.append(item)
        self._begun = bytearray()
        self._is_long = False

    def _on_end(self) -> None:
        self._ended = True


def too_long(number: int, most: int, kind: str) -> Item:
    """The item of a line or a part that is too long, without its bytes."""
    return Item(number, b"", error=LimitExceeded(f"The {kind} is larger than {most} bytes."))


def _broken() -> HTTPException:
    return HTTPException(400, "The body is not multipart/form-data as its Content-Type announces it.")
