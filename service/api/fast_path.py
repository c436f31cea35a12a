"""A request on the fast path: it is the cycle that uvicorn expects on a connection, and the task of its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from starlette.exceptions import HTTPException

from service.api.answers import Answer
from service.api.context import RequestContext, request_id_of
from service.api.dispatch import verb_of
from service.api.error_handlers import error_answer
from service.api.request_head import RequestHead
from service.api.state import AppState
from service.api.verb import Verb
from service.inference.admission import Admission
from service.telemetry.metrics import OTHER, UNMATCHED

# A longer body comes in many pieces, and is so much work that its path here does not matter.
FAST_PATH_BYTES: Final = 64 * 1024


def is_common(method: bytes, version: str, head: RequestHead, state: AppState) -> bool:
    """Whether a request with this head is of the common kind, which the fast path takes: for a verb."""
    from_page = b"origin" in head.headers and state.settings.cors_origins
    verb = verb_of(head.path)
    return (
        method == b"POST"
        and version == "1.1"
        and not from_page
        and head.length is not None
        and head.length <= FAST_PATH_BYTES
        and verb is not None
        and not verb.is_streamed(head)
    )


class FastPathRequest(RequestContext):
    """One request on the fast path. To uvicorn's protocol it looks like a cycle.

    It also runs its own answer, for much less than an asyncio.Task costs: `begin` starts the coroutine, and each future
    that it awaits continues it when done. So a verb may await futures, but nothing that needs asyncio's current task.
    """

    __slots__ = ("_coroutine", "_done", "data", "head", "keep_alive", "response_complete", "verb")

    def __init__(self, admission: Admission, head: RequestHead, data: bytes, *, keep_alive: bool) -> None:
        self.verb = verb = cast("Verb", verb_of(head.path))  # there is one, or the request would not be here
        super().__init__(request_id_of(head.headers), "POST", verb.route_of(head.path), admission, head.length or 0)
        self.head = head
        self.data = data
        self.keep_alive = keep_alive
        self.response_complete = False
        self._coroutine: Coroutine[asyncio.Future[Any], None, Answer] | None = None

    def reserve(self) -> None:
        """Reserve memory for a body that has not come whole. Raises Overloaded and LimitExceeded.

        One that has is counted by its verb if it is large, and a small one is parsed before the next is read.
        """
        if not self.reservation.bytes:
            self.reservation.hold_bytes(self.head.length or 0)

    def begin(self, state: AppState, done: Callable[[FastPathRequest, Answer | None], None]) -> None:
        """Have the verb answer. `done` gets the answer."""
        self._done = done
        data, self.data = self.data, b""
        self._coroutine = self.verb.answer(state, self.head, data, self)
        self._step()

    def _step(self, _: object = None) -> None:
        if self._coroutine is None:
            return
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as ended:
            self._end(ended.value)
        except BaseException:
            self._end(None)
            raise
        else:
            awaited.add_done_callback(self._step)

    def cancel(self, msg: str | None = None) -> None:
        """End the work with a refusal, as the server does when a drain takes too long.

        In the next turn of the loop, as asyncio.Task does: the server calls this while it goes over its tasks.
        """
        asyncio.get_running_loop().call_soon(self._cancel, msg)

    def _cancel(self, msg: str | None) -> None:
        if self._coroutine is not None:
            try:
                self._coroutine.throw(asyncio.CancelledError(msg))
            except StopIteration as ended:
                self._end(ended.value)

    def _end(self, answer: Answer | None) -> None:
        self._coroutine = None
        self._done(self, answer)

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone. uvicorn sets it; what has not begun by then is not begun."""
        return self.gone

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self.gone = gone
        if gone and self._coroutine is None:  # it has not begun, and what is reserved for its body is free again
            self.reservation.release()

    @property
    def message_event(self) -> FastPathRequest:
        """What uvicorn calls `set` on when there is news for the application; here nobody waits for it."""
        return self

    def set(self) -> None:
        """Do nothing."""


def refusal_answer(state: AppState, refusal: HTTPException, path: str) -> Answer:
    """The answer to what never became a request to `path`, if that is known; it is observed like any other."""
    request = RequestContext(request_id_of({}), OTHER, UNMATCHED)
    answer = error_answer(refusal, request.request_id, path)
    request.was_answered(answer.status, len(answer.content))
    answer.headers += request.headers()
    state.observer.observe(request, {})
    return answer
