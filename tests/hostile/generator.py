"""From a seed, a hostile connection: what is sent, in which pieces and with which stalls, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final, Literal

from tests.hostile import frames
from tests.hostile.questions import Truth
from tests.hostile.reference import judge

# wait: read what must come, then send no more. half-close: send no more at once, and read. close and reset: go, at once
# or in the middle. slow: like half-close, reading little by little.
End = Literal["wait", "half-close", "close", "reset", "slow"]
_ENDS: Final[tuple[End, ...]] = ("wait",) * 5 + ("half-close",) * 5 + ("close", "reset", "slow")
_STALLS: Final = (0.0, 0.0, 0.0, 0.0, 0.001, 0.005)


@dataclass(frozen=True)
class Piece:
    """Bytes that are sent after `stall` seconds, when so many `answers` have come."""

    data: bytes
    stall: float = 0.0
    answers: int = 0


@dataclass(frozen=True)
class Plan:
    """One connection. `parts` is what it was made of; `pieces` are the same bytes as they are sent."""

    parts: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    end: End

    @property
    def data(self) -> bytes:
        """All that is sent."""
        return b"".join(self.parts)


def generate(seed: int, truth: Truth) -> Plan:
    """The connection of this seed."""
    draw = Random(seed)
    parts = tuple(_parts(draw, seed))
    end = draw.choice(_ENDS)
    pieces = _patient(draw, parts, truth) if draw.random() < 0.3 else _cut(draw, b"".join(parts))
    if end in ("close", "reset"):
        pieces = pieces[: draw.randint(1, len(pieces))]
    return Plan(parts, tuple(pieces), end)


def _parts(draw: Random, seed: int) -> list[bytes]:
    count = draw.choice((1, 1, 2, 2, 3, 4, 6, 8))
    if draw.random() < 0.04:  # more than are read at once
        return [frames.page(draw, b"g%d-%d" % (seed, number)) for number in range(draw.randint(17, 60))]
    parts = [frames.good(draw, b"g%d-%d" % (seed, number)) for number in range(count)]
    if draw.random() < 0.6:
        parts.insert(draw.randint(0, count), draw.choice(frames.BAD)(draw, b"g%d-bad" % seed))
    if draw.random() < 0.1:
        parts[-1] = parts[-1][: draw.randint(1, len(parts[-1]))]
    return parts


def _patient(draw: Random, parts: tuple[bytes, ...], truth: Truth) -> list[Piece]:
    """A client that mostly waits for the answer before it sends the next request."""
    pieces = []
    data = b""
    for part in parts:
        before = judge(data, truth)
        answers = 0 if before.partial or before.closed or draw.random() < 0.2 else len(before.wants)
        pieces.append(Piece(part, draw.choice(_STALLS), answers))
        data += part
    return pieces


def _cut(draw: Random, data: bytes) -> list[Piece]:
    """The bytes in pieces of any size."""
    count = draw.choice((1, 1, 2, 3, 5, 20))
    places = sorted(draw.randrange(len(data)) for _ in range(count - 1))
    if draw.random() < 0.2:  # some just at the end of a line
        ends = [place + draw.randint(-1, 3) for place in range(len(data)) if data.startswith(b"\r\n", place)][:2_000]
        places = sorted(draw.choice(ends) for _ in range(count)) if ends else places
    if draw.random() < 0.05:  # byte by byte
        start = draw.randrange(len(data))
        places = list(range(start, min(len(data), start + 60)))
    bounds = [0, *(place for place in places if 0 < place < len(data)), len(data)]
    pieces = [Piece(data[start:end], draw.choice(_STALLS)) for start, end in pairwise(bounds)]
    return [piece for piece in pieces if piece.data]
