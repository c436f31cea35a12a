"""Requests as telemetry sees them, answered already, and a stream that keeps the lines of a log."""

from __future__ import annotations

import io
from typing import Any

from service.api.context import RequestContext


def record(
    method: str = "POST", route: str = "/encode", status: int = 200, images: int = 0, **told: Any
) -> RequestContext:
    """A request that was answered. `told` replaces what a `telemetry.record.Record` says of it."""
    request = RequestContext("abc", method, route)
    request.reservation.hold_images(images)
    request.status = status
    for name, value in told.items():
        setattr(request, name, value)
    return request


def encoded_two(**told: Any) -> RequestContext:
    """A request to encode two images, with a time for each stage."""
    sizes: dict[str, Any] = {"model": "mnist-mlp@1", "bytes_in": 512, "bytes_out": 834}
    stages = {"seconds": 70e-6, "read": 12e-6, "queue": 2e-6, "compute": 34e-6, "write": 13e-6}
    return record(images=2, **(sizes | stages | told))


class Lines(io.RawIOBase):
    """Keeps the lines that are written to it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> int:  # type: ignore[override]
        """Keep a line."""
        self.lines.append(line)
        return len(line)
