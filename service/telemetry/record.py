"""What is told of one request, once it has been answered, to metrics, log and traces."""

from __future__ import annotations

from typing import Protocol


class Record(Protocol):
    """One answered request. `route` is the template; sizes are those of the bodies in bytes; times are in seconds.

    `model` (name@version) is empty where the request got to none. The stages `read`, `queue`, `compute` and `write` are
    parts of `seconds`: reading the request, waiting for the engine, being in it, and writing the answer. `rejection`
    says why a request was given up before it was done, as a word of `vae_rejected_total`; else it is empty.
    """

    request_id: str
    method: str
    route: str
    status: int
    rejection: str
    model: str
    bytes_in: int
    bytes_out: int
    seconds: float
    read: float
    queue: float
    compute: float
    write: float

    @property
    def images(self) -> int:
        """Images or latents that the request asked for."""
