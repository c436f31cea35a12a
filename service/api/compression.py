"""Content codings of bodies and answers (RFC 9110, section 8.4.1): zstd, gzip, and deflate, which is zlib's format."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from starlette.exceptions import HTTPException
from zlib_ng.zlib_ng import DEFLATED, compressobj, decompressobj
from zlib_ng.zlib_ng import error as zlib_error

from service.api.answers import Answer
from service.api.context import RequestContext
from service.api.request_head import LONGEST_TEXT, RequestOptions, too_large
from service.api.requests import SMALL_BYTES, Body
from service.api.state import AppState
from service.errors import LimitExceeded, Overloaded
from service.inference.admission import Reservation
from service.settings import Settings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The codings; of those that a client likes equally, the first is used: it is the fastest.
CODINGS: Final = ("zstd", "gzip", "deflate")
VARY: Final = (b"vary", b"accept-encoding")

_ALIASES: Final = {"x-gzip": "gzip"}
_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

# zlib's window bits for its formats.
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}

# The levels from which on more time gains little, by `python -m bench.compression`.
_ZLIB_LEVEL: Final = 2
_ZSTD_LEVEL: Final = 1

# A body may be compressed so many times over.
_MOST_CODINGS: Final = 2

# A body may have so many members of gzip or frames of zstd. Each costs some time, however short it is.
_MOST_MEMBERS: Final = 1024

# The largest window of zstd in HTTP (RFC 9659, section 3), as a power of two. It is memory that a frame asks for.
_WINDOW_LOG: Final = 23

# A body is unpacked in pieces of at most so many bytes, from slices of so many. Memory for a piece is reserved before.
PIECE_BYTES: Final = 256 * 1024
SLICE_BYTES: Final = 64 * 1024

_UNPACKERS: Final[Mapping[str, Callable[[], Any]]] = {
    "gzip": partial(decompressobj, _WINDOW_BITS["gzip"]),
    "deflate": partial(decompressobj, _WINDOW_BITS["deflate"]),
    "zstd": partial(zstd.ZstdDecompressor, options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}),
}
UNPACKER_BYTES: Final = {"gzip": 0, "deflate": 0, "zstd": 2**_WINDOW_LOG}  # beside what comes out
_DAMAGED: Final[Any] = (zlib_error, zstd.ZstdError)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an Accept-Encoding header allows.

    `codings` are those of ours that it accepts. `best` is the one for an answer that is worth it, or None. `plain` is
    whether an answer may come as it is.
    """

    codings: tuple[str, ...] = ()
    best: str | None = None
    plain: bool = True


def accepted(header: bytes) -> Accepted:
    """What an Accept-Encoding header allows (RFC 9110, section 12.5.3).

    An item with a wrong syntax counts as not there, and so does a header that is too long to parse.
    """
    return _accepted(header) if header and len(header) <= LONGEST_TEXT else Accepted()


@lru_cache(maxsize=256)
def _accepted(header: bytes) -> Accepted:
    weights = dict[str, float]()
    for item in header.decode("latin-1").lower().split(","):
        name, semicolon, parameter = (part.strip() for part in item.partition(";"))
        weight = _WEIGHT.fullmatch(parameter)
        if weight or not semicolon:
            weights[_ALIASES.get(name, name)] = float(weight[1]) if weight else 1.0
    others = weights.get("*", 0.0)
    ours = {coding: weights.get(coding, others) for coding in CODINGS}
    best = max(CODINGS, key=lambda coding: ours[coding])
    is_best = ours[best] > 0 and ours[best] >= weights.get("identity", 0.0)
    return Accepted(
        codings=tuple(coding for coding in CODINGS if ours[coding] > 0),
        best=best if is_best else None,
        plain=weights.get("identity", weights.get("*", 1.0)) > 0,
    )


@lru_cache(maxsize=256)
def body_codings(header: bytes) -> tuple[str, ...]:
    """The codings to undo in a body with this Content-Encoding, in this order. Raises HTTPException (415)."""
    names = [name.strip() for name in header.decode("latin-1").lower().split(",")]
    codings = [_ALIASES.get(name, name) for name in names if name not in ("", "identity")]
    if len(header) > LONGEST_TEXT or len(codings) > _MOST_CODINGS or not set(codings).issubset(CODINGS):
        sentence = f"A body may be compressed by {', '.join(CODINGS)}, at most {_MOST_CODINGS} times."
        raise HTTPException(415, sentence, {"Accept-Encoding": ", ".join(CODINGS)})
    return tuple(reversed(codings))


def negotiate_codings(headers: Mapping[bytes, bytes], settings: Settings) -> tuple[tuple[str, ...], str | None, int]:
    """The codings of a body, that of its answer, and from which size on the answer is compressed.

    Raises HTTPException: 415 for a body in another coding, 406 when no answer is acceptable.
    """
    codings = body_codings(headers.get(b"content-encoding", b""))
    client = accepted(headers.get(b"accept-encoding", b""))
    if client.plain:
        return codings, client.best, settings.compress_from_bytes
    if client.best is None:
        raise HTTPException(406, f"Answers come as they are, or compressed by {', '.join(CODINGS)}.")
    return codings, client.best, 0


async def unpack_body(body: Body, state: AppState, request: RequestContext) -> None:
    """Undo a body's codings, in a thread. Raises what `unpack` raises."""
    packed, body.data = body.data, b""
    most, reservation = state.settings.max_body_bytes, request.reservation
    body.data = await state.run_in_thread(request, unpack, packed, body.options.body_codings, most, reservation)


async def pack_answer(answer: Answer, options: RequestOptions, state: AppState, request: RequestContext) -> None:
    """Compress an answer if its client likes that and it becomes shorter. Pictures are compressed already.

    Without memory for it the answer stays as it is: it is ready, and to refuse it now would waste what it took.
    """
    if answer.media_type.startswith(b"image/"):
        return
    coding, content = options.answer_coding, answer.content
    answer.headers.append(VARY)
    if coding is None or not has_room(request.reservation, content):
        return
    if len(content) <= SMALL_BYTES:
        packed = pack(content, coding)
    else:
        packed = await state.run_in_thread(request, pack, content, coding)
    if len(packed) < len(content) or not options.compress_from:
        answer.content = packed
        answer.headers.append((b"content-encoding", coding.encode()))


def has_room(reservation: Reservation, content: bytes) -> bool:
    """Reserve memory for compressing this content; whether there is any."""
    try:
        reservation.hold_bytes(len(content))
    except (LimitExceeded, Overloaded):
        return False
    return True


def pack(content: bytes, coding: str) -> bytes:
    """The content compressed: fast rather than small, and always the same."""
    if coding == "zstd":
        return zstd.compress(content, _ZSTD_LEVEL)
    packer = compressobj(_ZLIB_LEVEL, DEFLATED, _WINDOW_BITS[coding])
    return packer.compress(content) + packer.flush()


def unpack(data: bytes, codings: tuple[str, ...], max_bytes: int, reservation: Reservation) -> bytes:
    """The bytes that a body was compressed from, at most `max_bytes`. Memory for them is reserved on the way.

    A body of gzip is one or more members (RFC 1952, section 2.2), and one of zstd one or more frames (RFC 8878, section
    3). Raises HTTPException (400) for a damaged body; LimitExceeded as soon as there are more than `max_bytes`, and for
    too large a window or too many members; and Overloaded.
    """
    for coding in codings:
        reservation.hold_bytes(UNPACKER_BYTES[coding])
        try:
            data = _unpack(data, Unpacker(coding), max_bytes, reservation)
        finally:
            reservation.hold_bytes(-UNPACKER_BYTES[coding])
    return data


class Unpacker:
    """Undoes one coding of a body, piece by piece. Its caller reserves memory for it and for each piece."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._member = _UNPACKERS[coding]()
        self._members = 1
        self._rest = b""
        self._is_full = False  # the last piece was, so there may be more of it without another byte

    @property
    def is_done(self) -> bool:
        """Whether all that it was fed is unpacked."""
        return not (self._rest or self._is_full)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; only when it is done with those before."""
        self._rest = data

    def unpack(self) -> bytes:
        """The next piece, at most PIECE_BYTES. It may be empty.

        Raises HTTPException (400) for a damaged body; LimitExceeded for too large a window or too many members.
        """
        if self._member.eof:
            if self._members == (1 if self._coding == "deflate" else _MOST_MEMBERS):
                raise _too_many(self._coding)
            self._member = _UNPACKERS[self._coding]()
            self._members += 1
        member = self._member
        try:
            piece: bytes = member.decompress(self._rest, PIECE_BYTES)
        except _DAMAGED as damaged:
            if "too much memory" in str(damaged):
                raise LimitExceeded(f"The body's zstd needs a window of more than {2**_WINDOW_LOG} bytes.") from None
            raise HTTPException(400, f"The body is not {self._coding}.") from None
        self._is_full = len(piece) == PIECE_BYTES and not member.eof
        # zlib gives back what it has not used; zstd keeps it.
        self._rest = member.unused_data if member.eof else getattr(member, "unconsumed_tail", b"")
        return piece

    def end(self) -> None:
        """The body is over. Raises HTTPException (400) if it should go on."""
        if not self._member.eof:
            raise HTTPException(400, f"The body ends before its {self._coding} does.")


def _unpack(data: bytes, unpacker: Unpacker, max_bytes: int, reservation: Reservation) -> bytes:
    pieces, length = list[bytes](), 0
    for start in range(0, len(data), SLICE_BYTES):
        unpacker.feed(data[start : start + SLICE_BYTES])
        while not unpacker.is_done:
            reservation.hold_bytes(PIECE_BYTES)
            piece = unpacker.unpack()
            reservation.hold_bytes(len(piece) - PIECE_BYTES)
            pieces.append(piece)
            length += len(piece)
            if length > max_bytes:
                raise too_large(max_bytes)
    unpacker.end()
    reservation.hold_bytes(length)  # in pieces, and joined
    unpacked = b"".join(pieces)
    reservation.hold_bytes(-length)
    return unpacked


def _too_many(coding: str) -> Exception:
    if coding == "deflate":
        return HTTPException(400, "The body goes on after its deflate.")
    return LimitExceeded(f"The body has more than {_MOST_MEMBERS} members or frames of {coding}.")
