"""Who may come in, and for how long: a bound on what one process holds at once, and a deadline for each request.

The queue is counted in images, not in requests, because images are what it takes time to compute. What does not fit is
refused at once, while it is still cheap; what has expired, or belongs to a client that has gone, is dropped before it
is worked on.
"""

from __future__ import annotations

import math
import time

from service.errors import ClientGone, DeadlineExceeded, Overloaded


class Ticket:
    """One request in the house: by when it must be answered, whether anybody still waits, and where its time went.

    `request_id` is for its answer and the log. `arrived`, when its last byte did, and `deadline` are readings of
    time.perf_counter. `decode`, `queue`, `compute` and `encode` are seconds: reading the request, waiting for the
    engine and being in it, over all of its runs, and the rest, up to the answer's bytes. `model` is empty and `images`
    counts what is held until `was_read`.
    """

    __slots__ = (
        "_admission",
        "_bytes",
        "arrived",
        "compute",
        "deadline",
        "decode",
        "encode",
        "gone",
        "images",
        "model",
        "queue",
        "request_id",
    )

    def __init__(self, admission: Admission | None = None, request_id: str = "") -> None:
        """Nothing is held before `arrive`, and there is no deadline before `due_within`."""
        self._admission = admission
        self.request_id = request_id
        self._bytes = 0
        self.arrived = time.perf_counter()
        self.deadline = math.inf
        self.images = 0
        self.model = ""
        self.gone = False
        self.decode = self.queue = self.compute = self.encode = 0.0

    def arrive(self) -> None:
        """Note that the request is here, whole; it takes up the place of one image. Raises Overloaded."""
        self.arrived = time.perf_counter()
        self.hold_images(1)

    def due_within(self, wanted: float) -> None:
        """Set the deadline, `wanted` seconds after the arrival or when the service's own setting has it, if sooner."""
        if self._admission is not None:
            self.deadline = self.arrived + min(wanted, self._admission.deadline)

    def expect(self, count: int) -> None:
        """Raise Overloaded when `count` images will have no room, before any work is put into them.

        Takes nothing up, and may be called from any thread.
        """
        admission = self._admission
        if admission is not None:
            others = admission.images - self.images
            if others > 0 and others + count > admission.most_images:
                raise Overloaded("The queue is full.")

    def hold_images(self, count: int) -> None:
        """Take up the place of `count` images in all. Raises Overloaded when that is more than is free.

        A request that has the house to itself is let in whatever its size, or none of that size ever would be.
        """
        self.expect(count)
        if self._admission is not None:
            self._admission.images += count - self.images
        self.images = count

    def was_read(self, model: str, count: int) -> None:
        """Note that the request has been read and asks `model` (name@version) for `count` images. Raises Overloaded."""
        self.model = model
        if count != self.images:
            self.hold_images(count)
        self.decode = time.perf_counter() - self.arrived

    def was_answered(self) -> float:
        """Note that the answer's bytes are there; the seconds since the request's arrival."""
        seconds = time.perf_counter() - self.arrived
        self.encode = seconds - self.decode - self.queue - self.compute
        return seconds

    def check(self) -> None:
        """Raise ClientGone or DeadlineExceeded when the work would be for nobody."""
        if self.gone:
            raise ClientGone
        if time.perf_counter() >= self.deadline:
            raise DeadlineExceeded

    def hold_bytes(self, count: int) -> None:
        """Take up `count` more bytes of memory for a body. Raises Overloaded when that is more than is free."""
        admission = self._admission
        if admission is not None:
            others = admission.bytes - self._bytes
            if others and admission.bytes + count > admission.most_bytes:
                raise Overloaded("Too many bodies are being read at once.")
            admission.bytes += count
        self._bytes += count

    def leave(self) -> None:
        """Free what is held; a second time does nothing."""
        if self._admission is not None:
            self._admission.images -= self.images
            self._admission.bytes -= self._bytes
            self._admission = None


class Admission:
    """What one process holds: `images` admitted and not yet answered, `bytes` of bodies that came in pieces."""

    def __init__(self, *, most_images: int, most_bytes: int, deadline: float) -> None:
        """`deadline`: seconds from a request's arrival to its answer, where its client does not ask for less."""
        self.most_images = most_images
        self.most_bytes = most_bytes
        self.deadline = deadline
        self.images = 0
        self.bytes = 0
