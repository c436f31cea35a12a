"""Close a connection without progress: its client is silent, reads no answer, or sends too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal, Protocol

# A connection is looked at this often, in seconds, and a body's pace is measured over as long.
_WINDOW: Final = 10.0

Turn = Literal["server", "client", "body"]
Reason = Literal["silent", "slow", "unread", "memory"]


class Clock(Protocol):
    """What a watch needs of an event loop; tests put a fake in its place."""

    def time(self) -> float: ...  # noqa: D102
    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle: ...  # noqa: D102


class Watch:
    """The time without progress on one connection.

    Progress is a byte of a body, an answer, or any change in how much of the answers is still unsent. The connection
    notes it: `received` counts the bytes that came, and `progress` is when the latest answer went, on the loop's clock.
    """

    __slots__ = (
        "_before",
        "_close",
        "_least",
        "_loop",
        "_seconds",
        "_timer",
        "_transport",
        "_turn",
        "_unsent",
        "progress",
        "received",
    )

    def __init__(
        self,
        loop: Clock,
        transport: asyncio.Transport,
        *,
        seconds: float,
        least_rate: float,
        turn: Callable[[], Turn],
        close: Callable[[Reason | None], None],
    ) -> None:
        """Watch from now on.

        `seconds`: longest time without progress. `least_rate`: fewest bytes a second of a body, over ten seconds.
        `turn` says whom the connection waits for: the server, the client, or the client in the middle of a body.
        `close` is called once, with a reason where the client is at fault; None is the usual end of a connection.
        """
        self._loop = loop
        self._transport = transport
        self._seconds = seconds
        self._least = least_rate
        self._turn = turn
        self._close = close
        self.progress = loop.time()
        self._unsent = 0
        self.received = 0
        self._before: Turn = "client"
        self._timer = loop.call_later(min(seconds, _WINDOW), self._look)

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now, turn, unsent = self._loop.time(), self._turn(), self._transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self.progress = unsent, now
        slow = self._before == turn == "body" and self.received < self._least * _WINDOW
        if turn == "body" and self.received:
            self.progress = now
        self.received, self._before = 0, turn
        left = self._seconds - (now - self.progress) if unsent or turn != "server" else self._seconds
        if unsent and left <= 0:
            self._close("unread")
        elif slow and not unsent:
            self._close("slow")
        elif left <= 0:
            self._close("silent" if turn == "body" else None)
        else:
            self._timer = self._loop.call_later(min(left, _WINDOW), self._look)
