"""What is told of one request, once it has been answered, to whoever keeps a log or a trace of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One request: `route` is the template, sizes are those of the bodies in bytes, times are in seconds.

    `model` (name@version) is None where the request got to none. The stages are parts of `seconds`: reading, waiting
    for the engine, being in it, and the rest.
    """

    request_id: str
    method: str
    route: str
    status: int
    model: str | None
    images: int
    bytes_in: int
    bytes_out: int
    seconds: float
    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0
