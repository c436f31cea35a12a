"""gzip and deflate, which in HTTP is zlib's format (RFC 9110, section 8.4.1), for both directions."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from starlette.exceptions import HTTPException
from zlib_ng.zlib_ng import DEFLATED, compressobj, decompressobj, error

from service.api.request_head import LONGEST_TEXT, too_large
from service.inference.admission import Reservation

# The codings and zlib's window bits for their formats. The first is preferred.
_FORMATS: Final = {"gzip": 31, "deflate": 15}

# A smaller answer is sent as it is: packing it would cost more than it saves.
LEAST_BYTES: Final = 1024

# A body is unpacked in pieces of at most so many bytes, from slices of so many. Memory for a piece is reserved before.
_PIECE_BYTES: Final = 256 * 1024
_SLICE_BYTES: Final = 64 * 1024


def body_coding(header: bytes | None) -> str | None:
    """The coding of a body by its Content-Encoding; None for a body as it is. Raises HTTPException (415)."""
    name = (header or b"").strip().lower().decode("latin-1")
    if name in ("", "identity"):
        return None
    if name not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise HTTPException(415, f"A body may be compressed by one of {known}.", {"Accept-Encoding": known})
    return name


@lru_cache(maxsize=256)
def answer_coding(header: bytes) -> str | None:
    """The coding that an Accept-Encoding header allows; None for an answer as it is."""
    if len(header) > LONGEST_TEXT:
        return None
    accepted = set[str]()
    for item in header.decode("latin-1").lower().split(","):
        name, _, quality = (part.strip() for part in item.partition(";"))
        if quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            accepted.add(name)
    return next((name for name in _FORMATS if name in accepted), None)


def unpack(data: bytes, coding: str, max_bytes: int, reservation: Reservation) -> bytes:
    """The bytes that a body was compressed from, at most `max_bytes`. Memory for them is reserved on the way.

    Raises HTTPException (400) for a damaged body, LimitExceeded as soon as there are more than `max_bytes`, and
    Overloaded.
    """
    unpacker = decompressobj(_FORMATS[coding])
    pieces, length, at = list[bytes](), 0, 0
    try:
        while at < len(data) and not unpacker.eof:
            rest, at = data[at : at + _SLICE_BYTES], at + _SLICE_BYTES
            piece = b""
            while not unpacker.eof and (rest or len(piece) == _PIECE_BYTES):
                reservation.hold_bytes(_PIECE_BYTES)
                piece = unpacker.decompress(rest, _PIECE_BYTES)
                rest = unpacker.unconsumed_tail
                reservation.hold_bytes(len(piece) - _PIECE_BYTES)
                pieces.append(piece)
                length += len(piece)
                if length > max_bytes:
                    raise too_large(max_bytes)
    except error as damaged:  # type: ignore[misc]  # its stub calls the class an instance
        raise HTTPException(400, f"The body is not {coding}.") from damaged
    if not unpacker.eof:
        raise HTTPException(400, f"The body ends before its {coding} does.")
    if unpacker.unused_data or at < len(data):
        raise HTTPException(400, f"The body goes on after its {coding}.")
    reservation.hold_bytes(length)  # in pieces, and joined
    unpacked = b"".join(pieces)
    reservation.hold_bytes(-length)
    return unpacked


def pack(data: bytes, coding: str) -> bytes:
    """The bytes compressed: fast rather than small, and always the same."""
    packer = compressobj(1, DEFLATED, _FORMATS[coding])
    return packer.compress(data) + packer.flush()
