"""Twice the requests that the service can answer: it answers as many as before, in time, and refuses the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from harness.digits import base64_png, digits
from harness.openloop import run_apart

IMAGES: Final = 16  # of a request
CONNECTIONS: Final = 1000
DEADLINE_MS: Final = 1000


@dataclass(frozen=True)
class Overload:
    """What came of it; rates in requests per second, times in milliseconds."""

    capacity: float
    offered: float
    goodput: float
    p99: float
    refused: int
    refused99: float
    expired: int  # answers that came too late: 504
    other: int  # all other answers, and requests without an answer


def request(port: int, deadline_ms: int) -> bytes:
    """A POST of digits to /encode, whole."""
    images = digits()
    body = json.dumps({"images": [base64_png(images[number % len(images)]) for number in range(IMAGES)]}).encode()
    return (
        f"POST /encode HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"X-Request-Timeout-Ms: {deadline_ms}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def measure(port: int, seconds: float) -> Overload:
    """Measure the capacity on few connections, then send twice as many requests on many connections."""
    capacity = run_apart(port, request(port, 60_000), 1e6, min(seconds, 10.0), 16)["rate"]
    found = run_apart(port, request(port, DEADLINE_MS), 2 * capacity, seconds, CONNECTIONS)
    return Overload(
        capacity=capacity,
        offered=2 * capacity,
        goodput=found["rate"],
        p99=found["p99"],
        refused=int(found["refused"]),
        refused99=found["refused99"],
        expired=int(found["expired"]),
        other=int(found["failed"] - found["refused"] - found["expired"]),
    )
