"""Close a connection so that its last answer arrives (RFC 9112, section 9.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

# So many seconds after the last byte was sent, the client has it, and is no longer waited for.
LINGER_SECONDS: Final = 1.0

# After an answer that came before the end of its request's body, so much more of the body is read and dropped.
REST_BYTES: Final = 256 * 1024


class LingeringTransport(asyncio.Transport):
    """A transport that, when it is closed, ends what it sends but reads on, until its client ends the connection, too.

    A socket that is closed while it has bytes that nobody read, or gets more, resets the connection. A reset overtakes
    the answer: a client that was still sending may lose it. What arrives after `close` goes to the protocol, which has
    to drop it and to call `finish` when it is too much.
    """

    __slots__ = ("_closed", "_later", "_timer", "_transport", "client_ended", "write")

    def __init__(self, transport: asyncio.Transport, later: Callable[..., asyncio.TimerHandle]) -> None:
        """`later` is the `call_later` of the event loop. Set `client_ended` when the client has ended its side."""
        super().__init__()
        self.client_ended = False
        self._transport = transport
        self._later = later
        self._closed = False
        self.write = transport.write  # type: ignore[method-assign]  # each answer's: no call in between
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Send what is left and then the end, and wait for the client's for LINGER_SECONDS."""
        if self.client_ended:
            self.finish()
        elif not self.is_closing():
            self._closed = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self._timer = self._later(LINGER_SECONDS, self._look)

    def _look(self) -> None:
        """Wait longer only for a client that has not read its answer. One that never does is left by the watch."""
        if self._transport.get_write_buffer_size():
            self._timer = self._later(LINGER_SECONDS, self._look)
        else:
            self.finish()

    def finish(self) -> None:
        """Close without waiting for the client, when all is sent."""
        self.stop()
        self._closed = True
        self._transport.close()

    def stop(self) -> None:
        """The connection is lost: there is nothing to wait for."""
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closed or self._transport.is_closing()

    def abort(self) -> None:  # noqa: D102  # the transport's own, as all below
        self._closed = True
        self._transport.abort()

    def pause_reading(self) -> None:  # noqa: D102
        self._transport.pause_reading()

    def resume_reading(self) -> None:  # noqa: D102
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:  # noqa: D102
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: D102
        return self._transport.get_extra_info(name, default)
