"""The errors of the client.

VaeError
├── Refused              the service answered with a problem (RFC 9457)
│   ├── InvalidInput     422: values that cannot be used; `problem.errors` says which, and why
│   ├── LimitExceeded    413: more than a limit of the service allows, even in parts
│   ├── Unauthorized     401: no API key, or none of the service's
│   ├── Unknown          404: no such model, version, label or prior
│   ├── Overloaded       503: no room, or not ready, after the last try
│   └── ServiceFailed    500, 502: the service or what is before it failed
├── DeadlineExceeded     the call's timeout, or the service's own deadline (504), has passed
├── Unreachable          nobody answers at the URL, after the last try
├── BadAnswer            the answer is not one of vae-service
└── NothingUsable        with `skip_bad`: no picture is left
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong value. `pointer` is a JSON pointer (RFC 6901): /images/3 is the fourth picture of the call."""

    pointer: str
    detail: str

    @property
    def row(self) -> int | None:
        """The index in the pointer: of the picture or the latent that it is about, if it is about one."""
        parts = self.pointer.split("/")
        return int(parts[2]) if len(parts) > 2 and parts[2].isdecimal() else None

    def rebased(self, names: Sequence[str], rows: Sequence[int]) -> Fault:
        """The same fault; if it is about a row of one of `names`, with its index in the call."""
        parts = self.pointer.split("/")
        if self.row is None or parts[1] not in names or self.row >= len(rows):
            return self
        return replace(self, pointer="/".join([*parts[:2], str(rows[self.row]), *parts[3:]]))


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as the service says it (RFC 9457). `request_id` finds it in the service's log."""

    status: int
    title: str
    detail: str
    request_id: str
    type: str = "about:blank"
    errors: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        shown = [f"{fault.pointer}: {fault.detail}" for fault in self.errors[:3]]
        more = [f"and {len(self.errors) - 3} more"] if len(self.errors) > 3 else []
        faults = f" ({'; '.join(shown + more)})" if shown else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.status} {self.title}: {self.detail}{faults}{request}"


class VaeError(Exception):
    """Any error of this client. `str(error)` is one sentence."""


class Refused(VaeError):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class InvalidInput(Refused):
    """422: the request holds values that cannot be used. Nothing of that request was computed."""


class LimitExceeded(Refused):
    """413: more than a limit of the service allows. Batches were already divided as far as they can be."""


class Unauthorized(Refused):
    """401: the service needs an API key, and the request has none of its keys."""


class Unknown(Refused):
    """404: no such model, version, label or prior."""


class Overloaded(Refused):
    """503: no room for the request, or the service is not ready. It may be sent again later."""


class ServiceFailed(Refused):
    """500 or 502: the service, or a proxy before it, failed."""


class DeadlineExceeded(VaeError, TimeoutError):
    """The call's timeout has passed; or the service's own deadline, and then `problem` is what it said."""

    def __init__(self, sentence: str, problem: Problem | None = None) -> None:
        self.problem = problem
        super().__init__(sentence)


class Unreachable(VaeError):
    """The service cannot be reached, or closes the connection before it answers."""


class BadAnswer(VaeError):
    """The answer is not one of vae-service: the URL is perhaps that of something else."""


class NothingUsable(VaeError):
    """With `skip_bad`: no picture is left. `skipped` says why, by the index of each."""

    def __init__(self, skipped: Mapping[int, str]) -> None:
        self.skipped = dict(skipped)
        super().__init__(f"None of {len(self.skipped)} pictures can be used.")


_KINDS: Final[Mapping[int, type[Refused]]] = {
    401: Unauthorized,
    404: Unknown,
    413: LimitExceeded,
    422: InvalidInput,
    500: ServiceFailed,
    502: ServiceFailed,
    503: Overloaded,
}


def error_of(status: int, content: bytes, names: Sequence[str] = (), rows: Sequence[int] = ()) -> VaeError:
    """The error for an answer that is no success. `rows` are the call's indices of what the request had in `names`."""
    try:
        document = json.loads(content)
        faults = [Fault(fault["pointer"], fault["detail"]).rebased(names, rows) for fault in document.get("errors", ())]
        problem = Problem(
            status, document["title"], document["detail"], document["request_id"], document["type"], tuple(faults)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = Problem(status, "No problem document", content[:200].decode("latin-1"), "")
        if status not in _KINDS and status != 504:
            return BadAnswer(f"The answer is not one of vae-service: {problem}")
    if status == 504:
        return DeadlineExceeded(str(problem), problem)
    return _KINDS.get(status, Refused)(problem)
