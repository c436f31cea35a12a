"""What one call says to the service, without any input or output of its own.

A conversation is a generator. It yields what is to be done next (`Send`, `Wait`, `Work`) and is sent what came of it.
`client.py` does these things, now or asynchronously; batches, deadlines, retries and errors are all here.
"""

from __future__ import annotations

import email.utils
import json
import math
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar

import httpx

from vae_client.errors import BadAnswer, DeadlineExceeded, Fault, InvalidInput, Unreachable, error_of
from vae_client.pictures import BadRows

R = TypeVar("R")

# The body of a request has about so many bytes, at most. The service takes 16 MiB by default (VAE_MAX_BODY_BYTES).
MOST_BYTES: Final = 8 * 1024 * 1024

# Seconds to wait for a connection. The service is then tried again, as after a lost connection.
CONNECT_SECONDS: Final = 5.0

# Pauses before the second, third... try, in seconds: twice as long each time, up to the longest one, each of them
# anywhere between a half and the whole, so that many clients do not come back at the same moment.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0

_TRY_AGAIN: Final = (429, 503)

# What a proxy answers that has lost the service: HAProxy and nginx say 502, Ray Serve 500.
_LOST: Final = (500, 502)

_LONGEST_TIMEOUT_MS: Final = 999_999_999


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `body` has arguments of `httpx.Client.build_request`."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = "application/json"
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole. Names of headers are in any case."""

    status: int
    headers: httpx.Headers
    content: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and give its Answer. Raises httpx.TransportError when none comes within the seconds."""

    request: Request
    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Call a function that may take long, and give what it returns."""

    function: Callable[[], Any]


Step = Send | Wait | Work
Conversation = Generator[Step, Any, R]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a call, by their indices. `start` is the first of them, or was before bad ones were left out."""

    start: int
    indices: Sequence[int]

    def halves(self, overlap: int) -> tuple[Rows, Rows]:
        """Both halves. The second one begins so many rows before the first one's end."""
        middle = (len(self.indices) + overlap + 1) // 2
        first, second = self.indices[:middle], self.indices[middle - overlap :]
        return Rows(self.start, first), Rows(second[0], second)


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call of a verb: how some of its rows are asked for, how answers are read, how these become one result.

    `ask` and `read` may take long. `rows` are pictures, latents or images to draw, or 1 where nothing can be divided;
    pointers of faults call them by one of `names`. Batches share `overlap` rows. `cost` says how many images of the
    service a row counts for, `size` how many bytes. Answers with a status in `final` are read, and not tried again.
    """

    ask: Callable[[Rows, str | None], Request]
    read: Callable[[Answer], R]
    join: Callable[[list[R], Mapping[int, str]], R]
    rows: int = 1
    names: tuple[str, ...] = ("images", "z")
    overlap: int = 0
    cost: int = 1
    size: Callable[[int], int] = lambda _: 0
    model: str | None = None
    skip_bad: bool = False
    progress: Callable[[int], object] | None = None
    timeout: float | None = None
    final: tuple[int, ...] = (200,)


@dataclass(frozen=True, slots=True)
class Options:
    """What a client was made with: the service's URL, seconds for a call, tries again, images in one request."""

    url: str
    timeout: float
    retries: int
    batch_size: int


class Exchange(Generic[R]):
    """One call under way: its conversations can be held at the same time, and all have the same deadline."""

    def __init__(self, call: Call[R], options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._options = options
        self._clock = clock
        self._seconds = options.timeout if call.timeout is None else call.timeout
        self._deadline = clock() + self._seconds
        self._model = call.model
        self._pinned = False
        self._skipped = dict[int, str]()
        self.batches = list(_batches(call, options.batch_size))

    def pin(self) -> Conversation[None]:
        """Have all batches use one version of the model, though a new one may come between two of them."""
        name, self._pinned = self._call.model, True
        if name is not None and "@" in name:
            return
        answer = yield from self._exchange(Request("GET", "/models", {"view": "short"}))
        served = _document(answer)
        versions = [model["version"] for model in served["models"] if model["name"] == name]
        if name is None:
            self._model = served["default"]
        elif versions:
            self._model = f"{name}@{max(versions)}"

    def batch(self, rows: Rows) -> Conversation[list[R]]:
        """Ask for some rows: in halves if they are too many for the service, without bad ones if these are skipped."""
        call = self._call
        while rows.indices:
            try:
                request = yield Work(partial(call.ask, rows, self._model))
            except BadRows as unread:
                if not call.skip_bad:
                    raise next(iter(unread.reasons.values())) from None
                rows = self._skip(rows, {row: _reason(error) for row, error in unread.reasons.items()})
                continue
            answer = yield from self._exchange(request)
            if answer.status in call.final:
                part = yield Work(partial(_read, call, answer))
                self._advance(len(rows.indices) - (call.overlap if rows.start else 0))
                return [part]
            if answer.status == 413 and len(rows.indices) > 1 + call.overlap:
                if not self._pinned:
                    yield from self.pin()
                first, second = rows.halves(call.overlap)
                return (yield from self.batch(first)) + (yield from self.batch(second))
            error = error_of(answer.status, answer.content, call.names, rows.indices)
            reasons = _bad_rows(error.problem.errors) if call.skip_bad and isinstance(error, InvalidInput) else {}
            if not reasons:
                raise error
            rows = self._skip(rows, reasons)
        return []

    def result(self, parts: list[R]) -> R:
        """The result of the call, of the parts of all batches in order. Raises NothingUsable."""
        return self._call.join(parts, dict(sorted(self._skipped.items())))

    def _skip(self, rows: Rows, reasons: Mapping[int, str]) -> Rows:
        self._skipped.update(reasons)
        self._advance(len(reasons))
        return Rows(rows.start, [row for row in rows.indices if row not in reasons])

    def _advance(self, rows: int) -> None:
        if self._call.progress is not None:
            self._call.progress(rows)

    def _exchange(self, request: Request) -> Conversation[Answer]:
        """Send a request until it is answered: again after a lost connection, or when the service says when to."""
        tries = 0
        while True:
            tries += 1
            left = self._deadline - self._clock()
            if left <= 0:
                raise self._late()
            try:
                answer: Answer = yield Send(request, left)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as lost:
                pause, left = _pause(tries), self._deadline - self._clock()
                if left <= 0 and isinstance(lost, httpx.TimeoutException):
                    raise self._late() from lost
                if tries > self._options.retries or pause >= left:
                    times = "once" if tries == 1 else f"{tries} times"
                    raise Unreachable(
                        f"No answer from {self._options.url}, tried {times}: {lost or type(lost).__name__}."
                    ) from lost
            except httpx.TimeoutException as late:
                raise self._late() from late
            except httpx.DecodingError as error:
                raise BadAnswer(f"The answer cannot be decompressed: {error}.") from error
            except httpx.RequestError as error:
                raise Unreachable(f"No request can be sent to {self._options.url}: {error}.") from error
            else:
                after = _retry_after(answer)
                if after is None or answer.status in self._call.final or tries > self._options.retries:
                    return answer
                pause = max(after, _pause(tries))
                if pause >= self._deadline - self._clock():
                    return answer
            yield Wait(pause)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"There was no answer within {self._seconds:g} s.")


def timeout_header(seconds: float) -> dict[str, str]:
    """The header that tells the service how long the client will wait."""
    if math.isinf(seconds):
        return {}
    return {"x-request-timeout-ms": str(min(max(1, math.ceil(seconds * 1e3)), _LONGEST_TIMEOUT_MS))}


def _batches(call: Call[R], batch_size: int) -> Iterator[Rows]:
    """The rows of a call in batches: each has at most `batch_size` images and, if it is not one row, MOST_BYTES."""
    most = max(1, (batch_size - call.overlap) // call.cost) + call.overlap
    start = end = 0
    while end < call.rows:
        end, size = start, 0
        while end < call.rows and end - start < most:
            size += call.size(end)
            if size > MOST_BYTES and end - start > call.overlap:
                break
            end += 1
        yield Rows(start, range(start, end))
        start = end - call.overlap


def _read(call: Call[R], answer: Answer) -> R:
    """A part of the result. Raises BadAnswer."""
    try:
        return call.read(answer)
    except Exception as error:  # parsers raise many kinds of exceptions for what somebody else's server says
        kind = answer.headers.get("content-type", "without a type")
        raise BadAnswer(f"The answer is not one of vae-service: {answer.status}, {kind}.") from error


def _document(answer: Answer) -> Any:
    if answer.status != 200:
        raise error_of(answer.status, answer.content)
    try:
        return json.loads(answer.content)
    except ValueError as error:
        raise BadAnswer("The answer to /models is not JSON: this is not vae-service.") from error


def _bad_rows(faults: Sequence[Fault]) -> dict[int, str]:
    """The reasons of faults by row; empty if one of them is about something else."""
    if any(fault.row is None for fault in faults):
        return {}
    return {fault.row: fault.detail for fault in faults if fault.row is not None}


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _pause(tries: int) -> float:
    longest: float = min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311  # not a secret


def _retry_after(answer: Answer) -> float | None:
    """The least seconds to wait before the request is sent again; None if that cannot help.

    The service says so with Retry-After (RFC 9110, section 10.2.3): a number, or until a date. The answer of a proxy
    that has lost the service, which is no problem of its own, is like a lost connection.
    """
    if answer.status in _LOST and not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return 0.0
    if answer.status not in _TRY_AGAIN:
        return None
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
