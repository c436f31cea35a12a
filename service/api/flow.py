"""What a connection holds beside the requests that are being answered: what it has read too early, and not yet sent."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

from service.errors import VaeError
from service.inference.admission import Admission, Reservation


class Flow(FlowControl):
    """Pauses and resumes reading and writing, and counts the bytes of both.

    Memory is reserved for what was read and waits for requests before it. Answers that the client does not read are
    counted from where their request's reservation ends.
    """

    def __init__(self, transport: asyncio.Transport, admission: Admission) -> None:
        super().__init__(transport)
        self._kept = Reservation(admission)
        self._transport = transport
        self._unsent = Reservation(admission)
        self._held = False

    def hold(self) -> None:
        """Pause reading; from now on only `let_go` resumes it, and not uvicorn."""
        self.pause_reading()
        self._held = True

    def let_go(self, count: int) -> None:
        """Let uvicorn resume reading, and free `count` bytes of what was kept."""
        self._held = False
        self._kept.hold_bytes(-count)

    def keep(self, count: int) -> bool:
        """Reserve memory for `count` bytes more; whether there is any."""
        try:
            self._kept.hold_bytes(count)
        except VaeError:
            return False
        return True

    def keep_only(self, count: int) -> None:
        """No more than `count` bytes wait any more."""
        if self._kept.bytes > count:
            self._kept.hold_bytes(count - self._kept.bytes)

    def resume_reading(self) -> None:
        """Read again, unless the connection holds back what it has read already."""
        if not self._held:
            super().resume_reading()

    def pause_writing(self) -> None:
        """The transport has more to send than the client reads."""
        self._unsent.count_bytes(self._transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        """The transport has sent almost all of it."""
        self._unsent.free_bytes()
        super().resume_writing()

    def release(self) -> None:
        """The connection is lost, and with it all that it held."""
        self._kept.release()
        self._unsent.release()


def when_reset(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    running: object,
    wanted: Callable[[], bool],
    then: Callable[[], None],
) -> None:
    """Call `then` and abort the transport once its client has reset the connection; look while that is `wanted`.

    A client that sends no more may be waiting for its answers, or be gone. To find out, it is sent an interim answer,
    which every client of HTTP/1.1 accepts (RFC 9110, section 15.2): one that is gone resets the connection. `running`
    is the cycle whose answer comes next. A transport that has read its end does not notice a reset by itself.
    """
    version = getattr(running, "scope", {}).get("http_version", "1.1")
    if wanted() and version == "1.1" and not getattr(running, "response_started", False):
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def look(seconds: float) -> None:
        if transport.is_closing() or not wanted():
            return
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), 0)  # errors are reported unasked
        if poll.poll(0):
            then()
            transport.abort()
        else:
            loop.call_later(seconds, look, min(1.0, 2 * seconds))

    look(0.01)
