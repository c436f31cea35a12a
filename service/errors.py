"""The domain's errors. No HTTP here: `api/error_handlers.py` holds the one table from these classes to statuses.

VaeError
├── InvalidInput         a value the client must mend; says where
├── LimitExceeded        more than a setting allows; says which limit
├── Unknown              a model, version, label or prior that is not served
├── Unauthorized         no API key, or none of ours
├── Overloaded           no room for another request just now
├── DeadlineExceeded     the time that the request had is over
├── ClientGone           nobody waits for the answer any more
├── RuntimeFailed        onnxruntime raised or returned something that is not a number
├── BundleRefused        a bundle disagrees with its contract, its hashes or its golden outputs
├── ProviderUnavailable  the execution provider asked for cannot be had
├── TracingUnavailable   traces are asked for, and what makes or sends them is not installed
└── CannotStart          models, keys or the port cannot be had as the settings say
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: `path` leads to it from the request's root, as in ("images", 3)."""

    path: tuple[str | int, ...]
    reason: str


class VaeError(Exception):
    """Any error of this service. `str(error)` is one sentence.

    `rejection` is the reason under which `vae_rejected_total` counts a request that was given up; empty for the others.
    """

    rejection = ""


class InvalidInput(VaeError):
    """One or more values of a request cannot be used; nothing of the request was computed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = "a value" if len(self.faults) == 1 else f"{len(self.faults)} values"
        super().__init__(f"The request holds {count} that cannot be used.")


class LimitExceeded(VaeError):
    """A request is larger than a setting allows. `path` is empty where the request as a whole is."""

    def __init__(self, sentence: str, path: tuple[str | int, ...] = ()) -> None:
        self.path = path
        super().__init__(sentence)


class Unknown(VaeError):
    """A request names something that is not served."""


class Unauthorized(VaeError):
    """The service wants an API key that the request has not."""


class Overloaded(VaeError):
    """The service holds as much as it may. The request was not begun; it may be sent again."""

    def __init__(self, sentence: str, rejection: str) -> None:
        self.rejection = rejection
        super().__init__(sentence)


class DeadlineExceeded(VaeError):
    """The request's deadline passed before its answer was ready."""

    rejection = "deadline"

    def __init__(self) -> None:
        super().__init__("The deadline passed before the answer was ready.")


class ClientGone(VaeError):
    """The client closed its connection. Nobody reads this error's answer; it is counted."""

    rejection = "disconnected"

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class RuntimeFailed(VaeError):
    """The runtime failed on input that had been found valid. The sentence is for the log, not for the client."""


class BundleRefused(VaeError):
    """A bundle cannot be served as it is."""


class ProviderUnavailable(VaeError):
    """`VAE_PROVIDER` asks for an execution provider that this machine or this onnxruntime has not."""


class TracingUnavailable(VaeError):
    """Tracing is switched on, but OpenTelemetry or the exporter asked for is not installed."""


class CannotStart(VaeError):
    """A folder of models, a file of keys or a port that a setting names cannot be had. Says what to set."""
