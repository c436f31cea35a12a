"""Batches, deadlines and tries again, without a connection: the test answers what the conversation asks."""

from __future__ import annotations

import email.utils
import itertools
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from vae_client.conversation import (
    CONNECT_SECONDS,
    LONGEST_PAUSE,
    MOST_BYTES,
    Answer,
    Call,
    Conversation,
    Exchange,
    Options,
    Request,
    Rows,
    Send,
    Wait,
    Work,
    timeout_header,
)
from vae_client.errors import DeadlineExceeded, InvalidInput, LimitExceeded, Overloaded, Refused, Unreachable, error_of

URL = "http://service"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def call_of(rows: int, **more: Any) -> Call[list[int]]:
    """A call that asks for the indices of its rows, and gets them."""
    return Call(
        lambda rows, model: Request("POST", "/encode", {"rows": json.dumps(list(rows.indices)), "model": str(model)}),
        lambda answer: list(json.loads(answer.content)),
        lambda parts, skipped: [row for part in parts for row in part],
        rows=rows,
        **more,
    )


def exchange_of(call: Call[Any], clock: Clock, timeout: float = 60, batch_size: int = 256) -> Exchange[Any]:
    return Exchange(call, Options(URL, timeout, retries=4, batch_size=batch_size), clock)


def problem(status: int, pointers: Sequence[str] = (), **headers: str) -> Answer:
    errors = [{"pointer": pointer, "detail": "Bad."} for pointer in pointers]
    document = {
        "type": "about:blank",
        "title": "T",
        "status": status,
        "detail": "D.",
        "request_id": "r",
        "errors": errors,
    }
    return Answer(status, httpx.Headers(headers), json.dumps(document).encode())


def hold(conversation: Conversation[Any], clock: Clock, answers: Any) -> tuple[Any, list[Send], list[float]]:
    """Hold a conversation: `answers` gives an Answer or an error to each request, and waiting moves the clock."""
    sent, waited = list[Send](), list[float]()
    came: Any = None
    try:
        while True:
            step = conversation.throw(came) if isinstance(came, Exception) else conversation.send(came)
            if isinstance(step, Work):
                came = step.function()
            elif isinstance(step, Wait):
                waited.append(step.seconds)
                clock.now += step.seconds
                came = None
            else:
                sent.append(step)
                came = answers(step.request)
    except StopIteration as ended:
        return ended.value, sent, waited


def rows_of(request: Request) -> list[int]:
    return list(json.loads(request.query["rows"]))


def good(request: Request) -> Answer:
    return Answer(200, httpx.Headers(), request.query["rows"].encode())


def whole(exchange: Exchange[Any]) -> Conversation[Any]:
    (rows,) = exchange.batches
    return exchange.batch(rows)


class TestTries:
    def test_retry_after_is_waited_for(self) -> None:
        clock = Clock()
        answers = iter([problem(503, **{"retry-after": "7"}), problem(429, **{"retry-after": "3"})])
        exchange = exchange_of(call_of(2), clock)
        parts, sent, waited = hold(whole(exchange), clock, lambda request: next(answers, None) or good(request))
        assert exchange.result(parts) == [0, 1]
        assert waited == [7, 3]
        assert [step.seconds for step in sent] == [60, 53, 50]

    def test_it_can_be_a_date(self) -> None:
        clock = Clock()
        date = email.utils.formatdate(time.time() + 30, usegmt=True)
        answers = iter([problem(503, **{"retry-after": date})])
        _, _, (waited,) = hold(
            whole(exchange_of(call_of(1), clock)), clock, lambda request: next(answers, None) or good(request)
        )
        assert 0 < waited <= 30

    @pytest.mark.parametrize("header", [{}, {"retry-after": "soon"}, {"retry-after": "61"}])
    def test_without_a_moment_before_the_deadline_there_is_no_other_try(self, header: dict[str, str]) -> None:
        clock = Clock()
        with pytest.raises(Overloaded, match="503 T: D"):
            hold(whole(exchange_of(call_of(1), clock)), clock, lambda _: problem(503, **header))
        assert clock.now == 0

    @pytest.mark.parametrize("status", [500, 502])
    def test_a_proxy_that_has_lost_the_service_is_asked_again_and_the_service_is_not(self, status: int) -> None:
        clock = Clock()
        lost = Answer(status, httpx.Headers({"content-type": "text/plain"}), b"Internal Server Error")
        answers = iter([lost, lost])
        _, sent, waited = hold(
            whole(exchange_of(call_of(1), clock)), clock, lambda request: next(answers, None) or good(request)
        )
        assert len(sent) == 3
        assert 0 < waited[0] <= 0.1 < waited[1] * 2 <= 0.4
        with pytest.raises(Refused, match=f"{status} T: D"):
            hold(whole(exchange_of(call_of(1), clock)), clock, lambda _: problem(status))

    def test_pauses_after_lost_connections_grow_and_end(self) -> None:
        clock = Clock()
        tries = list[float]()

        def lose(request: Request) -> Exception:
            tries.append(clock.now)
            return httpx.ReadError("lost")

        with pytest.raises(Unreachable, match="No answer from http://service, tried 5 times: lost"):
            hold(whole(exchange_of(call_of(1), clock)), clock, lose)
        pauses = [later - sooner for sooner, later in itertools.pairwise(tries)]
        assert len(pauses) == 4
        assert all(0.049 * 2**n < pause < 0.101 * 2**n < LONGEST_PAUSE for n, pause in enumerate(pauses))

    def test_a_lost_connection_near_the_deadline_is_what_is_said(self) -> None:
        clock = Clock()
        with pytest.raises(Unreachable, match="tried once: lost"):
            hold(whole(exchange_of(call_of(1), clock, timeout=0.01)), clock, lambda _: httpx.ConnectError("lost"))

    def test_a_connection_that_takes_long_is_tried_again_and_an_answer_that_does_is_late(self) -> None:
        clock = Clock()
        errors = iter([httpx.ConnectTimeout("slow")])
        parts, _, _ = hold(
            whole(exchange_of(call_of(1), clock)), clock, lambda request: next(errors, None) or good(request)
        )
        assert parts == [[0]]
        assert CONNECT_SECONDS < 60
        with pytest.raises(DeadlineExceeded, match="within 60 s"):
            hold(whole(exchange_of(call_of(1), clock)), clock, lambda _: httpx.ReadTimeout("slow"))


class TestBatches:
    def test_they_have_at_most_so_many_images(self) -> None:
        def lengths(call: Call[Any], batch_size: int) -> list[int]:
            return [len(rows.indices) for rows in exchange_of(call, Clock(), batch_size=batch_size).batches]

        assert lengths(call_of(1), 4) == [1]
        assert lengths(call_of(8), 4) == [4, 4]
        assert lengths(call_of(9), 4) == [4, 4, 1]
        assert lengths(call_of(9, cost=3), 6) == [2, 2, 2, 2, 1]
        assert lengths(call_of(2, cost=30), 6) == [1, 1]
        assert lengths(call_of(5, overlap=1, cost=2), 5) == [3, 3]
        assert lengths(call_of(2, overlap=1, cost=99), 5) == [2]

    def test_they_have_at_most_so_many_bytes(self) -> None:
        batches = exchange_of(call_of(5, size=lambda row: MOST_BYTES // 2 + (row == 2)), Clock()).batches
        assert [list(rows.indices) for rows in batches] == [[0, 1], [2], [3, 4]]

    def test_one_that_is_too_large_is_halved_until_it_fits(self) -> None:
        clock = Clock()
        asked = list[int]()

        def answer(request: Request) -> Answer:
            if request.path == "/models":
                models = [{"name": "mnist", "version": version} for version in (9, 10)]
                return Answer(200, httpx.Headers(), json.dumps({"default": None, "models": models}).encode())
            asked.append(len(rows_of(request)))
            return problem(413) if asked[-1] > 3 else good(request)

        exchange = exchange_of(call_of(10, model="mnist"), clock)
        parts, sent, _ = hold(whole(exchange), clock, answer)
        assert exchange.result(parts) == list(range(10))
        assert asked == [10, 5, 3, 2, 5, 3, 2]
        assert {step.request.query.get("model") for step in sent[2:]} == {"mnist@10"}
        with pytest.raises(LimitExceeded):
            hold(whole(exchange_of(call_of(1), clock)), clock, lambda _: problem(413))

    def test_halves_of_a_walk_share_a_point(self) -> None:
        assert Rows(0, range(3)).halves(1) == (Rows(0, range(2)), Rows(1, range(1, 3)))
        assert Rows(5, range(5, 9)).halves(1) == (Rows(5, range(5, 8)), Rows(7, range(7, 9)))

    def test_faults_are_counted_from_the_calls_first_row(self) -> None:
        clock = Clock()
        exchange = exchange_of(call_of(9), clock, batch_size=4)
        with pytest.raises(InvalidInput) as bad:
            hold(
                exchange.batch(exchange.batches[2]),
                clock,
                lambda _: problem(422, ["/images/0", "/dims/0", "/seed", ""]),
            )
        assert [fault.pointer for fault in bad.value.problem.errors] == ["/images/8", "/dims/0", "/seed", ""]

    def test_bad_rows_are_left_out_and_the_others_asked_for_again(self) -> None:
        clock = Clock()
        done = list[int]()
        exchange = exchange_of(call_of(6, skip_bad=True, progress=done.append), clock)

        def answer(request: Request) -> Answer:
            rows = rows_of(request)
            bad = [f"/images/{rows.index(row)}" for row in (1, 4) if row in rows]
            return problem(422, bad[:1]) if bad else good(request)

        parts, sent, _ = hold(whole(exchange), clock, answer)
        assert exchange.result(parts) == [0, 2, 3, 5]
        assert [len(rows_of(step.request)) for step in sent] == [6, 5, 4]
        assert done == [1, 1, 4]

    def test_a_fault_that_is_about_no_picture_is_not_left_out(self) -> None:
        clock = Clock()
        with pytest.raises(InvalidInput, match="/seed"):
            hold(whole(exchange_of(call_of(6, skip_bad=True), clock)), clock, lambda _: problem(422, ["/seed"]))


def test_the_service_is_told_the_time_in_milliseconds() -> None:
    assert timeout_header(1.5) == {"x-request-timeout-ms": "1500"}
    assert timeout_header(1e-9) == {"x-request-timeout-ms": "1"}
    assert timeout_header(1e12) == {"x-request-timeout-ms": "999999999"}
    assert timeout_header(math.inf) == {}


def test_the_services_own_deadline_is_a_deadline_with_a_problem() -> None:
    late = error_of(504, problem(504).content)
    assert isinstance(late, DeadlineExceeded)
    assert late.problem is not None
    assert late.problem.request_id == "r"
