"""What a connection holds beside the requests that are being answered: what it has read too early, and not yet sent."""

from __future__ import annotations

import asyncio

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
