"""One request, from its arrival to its answer: its id, what it holds, and what the log, the traces and metrics tell."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from typing import Final

from service.inference.admission import Admission, Reservation
from service.inference.job import Job

# A request id goes into logs and headers as it is. A client's own is taken only if it cannot break either.
_SAFE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

# What a request with less to compute takes is not counted. While it waits that is a small part of its cost, which is of
# the run; with VAE_QUEUE at its default all of them are at most 64 MB.
_SMALL_COST: Final = 128 * 1024


class RequestContext(Job):
    """One request. Telemetry reads it as a `telemetry.record.Record`.

    `route` is the route's template. `arrived`, when the last byte did, is a reading of time.perf_counter. `model`
    (name@version) is empty until the request has been read. `read` and `write` are seconds: reading the request, and
    writing its answer. `status`, `seconds` and `bytes_out` are 0 until there is an answer, and `rejection` is a reason
    of `vae_rejected_total`, or empty.
    """

    __slots__ = (
        "arrived",
        "bytes_in",
        "bytes_out",
        "method",
        "model",
        "read",
        "rejection",
        "request_id",
        "reservation",
        "route",
        "seconds",
        "status",
        "write",
    )

    def __init__(
        self,
        request_id: str = "",
        method: str = "POST",
        route: str = "",
        admission: Admission | None = None,
        bytes_in: int = 0,
    ) -> None:
        """Reserve nothing yet; the clock starts now."""
        self.deadline = float("inf")
        self.gone = False
        self.queue = self.compute = self.read = self.write = self.seconds = 0.0
        self.request_id = request_id
        self.method = method
        self.route = route
        self.reservation = Reservation(admission)
        self.arrived = time.perf_counter()
        self.model = self.rejection = ""
        self.bytes_in = bytes_in
        self.status = self.bytes_out = 0

    @property
    def images(self) -> int:
        """How many images or latents the request asks for; 1 until that is known, 0 before it has arrived."""
        return self.reservation.images

    def begin_verb(self, path: str, admission: Admission, bytes_in: int) -> None:
        """Note that a verb answers this request, which reserves its place with `admission`."""
        self.route = path
        self.reservation = Reservation(admission)
        self.bytes_in = bytes_in

    def arrive(self) -> None:
        """Note that the whole request is here, and reserve one image for it. Raises Overloaded."""
        self.arrived = time.perf_counter()
        self.reservation.hold_images(1)

    def was_read(self, model: str, count: int, cost: int = 0) -> None:
        """Note that the request asks `model` (name@version) for `count` images, of `cost` bytes each; reserve both.

        Raises Overloaded, and LimitExceeded when all memory for requests is too little.
        """
        self.model = model
        if count != self.reservation.images:
            self.reservation.hold_images(count)
        if count * cost > _SMALL_COST:
            self.reservation.hold_bytes(count * cost)
        self.read = time.perf_counter() - self.arrived

    def was_answered(self, status: int, bytes_out: int) -> None:
        """Note that the answer is ready. What is not another stage is `write`, in a request that was read."""
        self.status = status
        self.bytes_out = bytes_out
        self.seconds = seconds = time.perf_counter() - self.arrived
        self.write = seconds - self.read - self.queue - self.compute if self.model else 0.0

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every answer carries: X-Request-ID and Server-Timing, in milliseconds."""
        spent = b"queue;dur=%.3f, compute;dur=%.3f" % (self.queue * 1e3, self.compute * 1e3)
        return [(b"x-request-id", self.request_id.encode("ascii")), (b"server-timing", spent)]


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's X-Request-ID if it is safe to repeat, else a new one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and _SAFE_ID.fullmatch(sent):
        return sent.decode("ascii")
    return random.randbytes(16).hex()  # noqa: S311  # it tells requests apart; it keeps no secret
