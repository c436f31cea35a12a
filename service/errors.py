"""The errors of the service. They know nothing of HTTP: the table in `api/error_handlers.py` gives each a status.

VaeError
├── InvalidInput         a value that the client has to correct; says where it is
├── LimitExceeded        more than a setting allows; says which limit
├── Unknown              a model, version, label or prior that is not served
├── Unauthorized         no API key, or none of ours
├── Overloaded           no room for another request at the moment
├── DeadlineExceeded     the deadline of the request has passed
├── ClientGone           the client has closed its connection
├── RuntimeFailed        onnxruntime raised, or returned values that are not finite
│   └── DeviceFailed      the GPU has no memory left, or does not work any more
├── BundleRefused        a bundle does not match its contract, its hashes or its golden outputs
│   ├── BundleUnreadable  a file of it cannot be read; perhaps later
│   └── NotOnCuda         CUDA cannot run all of its graphs
├── ProviderUnavailable  the execution provider of VAE_PROVIDER does not work here
├── TracingUnavailable   tracing is on, but OpenTelemetry or the exporter is not installed
└── CannotStart          models, keys or the port are not as the settings say
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One error in a request. `path` leads to it from the root of the request, as in ("images", 3)."""

    path: tuple[str | int, ...]
    reason: str


class VaeError(Exception):
    """Any error of this service. `str(error)` is one sentence.

    `rejection` is the value of the label `reason` in `vae_rejected_total`. It is empty for errors that are not counted
    there.
    """

    rejection = ""


class InvalidInput(VaeError):
    """One or more values of a request cannot be used. Nothing of the request was computed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = "a value" if len(self.faults) == 1 else f"{len(self.faults)} values"
        super().__init__(f"The request holds {count} that cannot be used.")


class LimitExceeded(VaeError):
    """A request is larger than a setting allows. `path` is empty if this applies to the whole request."""

    def __init__(self, sentence: str, path: tuple[str | int, ...] = ()) -> None:
        self.path = path
        super().__init__(sentence)


class Unknown(VaeError):
    """A request names a model, version, label or prior that is not served."""


class Unauthorized(VaeError):
    """The service needs an API key, and the request does not have a valid one."""


class Overloaded(VaeError):
    """The service holds as many images or bytes as it may. Nothing was computed; the client may try again."""

    def __init__(self, sentence: str, rejection: str) -> None:
        self.rejection = rejection
        super().__init__(sentence)


class DeadlineExceeded(VaeError):
    """The request's deadline passed before its answer was ready."""

    rejection = "deadline"

    def __init__(self) -> None:
        super().__init__("The deadline passed before the answer was ready.")


class ClientGone(VaeError):
    """The client has closed its connection. This error is only counted: its answer cannot be sent."""

    rejection = "disconnected"

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class RuntimeFailed(VaeError):
    """onnxruntime failed on valid input. The message is for the log, not for the client."""


class DeviceFailed(RuntimeFailed):
    """The GPU failed on valid input. The message is for the log, not for the client.

    `lost`: CUDA itself failed, and most likely does not work in this process any more.
    """

    def __init__(self, sentence: str, *, lost: bool) -> None:
        self.lost = lost
        super().__init__(sentence)


class BundleRefused(VaeError):
    """A bundle cannot be served."""


class BundleUnreadable(BundleRefused):
    """A file of a bundle cannot be read. That may be the fault of the machine at this moment."""


class NotOnCuda(BundleRefused):
    """CUDA has no kernel for a node of a bundle's graphs, which onnxruntime would run on the CPU."""


class ProviderUnavailable(VaeError):
    """The execution provider of `VAE_PROVIDER` does not work with this machine or this onnxruntime."""


class TracingUnavailable(VaeError):
    """Tracing is on, but OpenTelemetry or the exporter is not installed."""


class CannotStart(VaeError):
    """The models folder, the file of API keys or the port in the settings cannot be used. Says what to set."""
