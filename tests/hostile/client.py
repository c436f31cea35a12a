"""Play a plan against a server, and compare what comes back with what must."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from tests.hostile.generator import Plan
from tests.hostile.reference import Verdict, Want

SECONDS: Final = 60  # within which a connection is over; more is a hang

_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*")
_FIELD: Final = re.compile(rb"([a-z0-9-]+): ([ -~]*)")


@dataclass(frozen=True)
class Answer:
    """An answer as it came. `interim`: how many interim ones came before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: int


@dataclass
class Reader:
    """Reads answers from pieces of a connection; `fault` says what is wrong with their form."""

    wants: list[Want]
    answers: list[Answer] = field(default_factory=list)
    rest: bytes = b""
    fault: str = ""
    _interim: int = 0

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self.rest += data
        while not self.fault and self._next():
            pass

    def _next(self) -> bool:
        head, found, body = self.rest.partition(b"\r\n\r\n")
        if not found:
            return False
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        fields = [_FIELD.fullmatch(line) for line in lines]
        if status is None or None in fields:
            self.fault = f"no answer has the head {head[:200]!r}"
            return False
        if status[1] == b"100" and not fields:
            self._interim += 1
            self.rest = body
            return True
        headers = {each[1].decode(): each[2].decode() for each in fields if each is not None}
        said = headers.get("content-length", "0" if status[1] == b"304" else "")  # which has no content
        if len(headers) < len(fields) or not re.fullmatch(r"\d{1,9}", said):
            self.fault = f"no length, or a field twice, in {head[:200]!r}"
            return False
        number = len(self.answers)
        bare = number < len(self.wants) and self.wants[number].bare
        length = 0 if bare else int(said)
        if bare and int(status[1]) in self.wants[number].refused:
            length = min(len(body), int(said))  # what is no request may have no method either
        if len(body) < length:
            return False
        self.answers.append(Answer(int(status[1]), headers, body[:length], self._interim))
        self._interim, self.rest = 0, body[length:]
        return True


@dataclass
class Outcome:
    """What came of a plan. `closed`: the server ended the connection, by a reset where `was_reset` says so."""

    reader: Reader
    closed: bool = False
    was_reset: bool = False
    late: bool = False


async def play(plan: Plan, verdict: Verdict, port: int) -> Outcome:
    """Play a plan to its end."""
    loop = asyncio.get_running_loop()
    outcome = Outcome(Reader(verdict.wants))
    with socket.socket() as link:
        link.setblocking(False)
        if plan.end == "slow":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(SECONDS):
                await loop.sock_connect(link, ("127.0.0.1", port))
                news = asyncio.Event()
                reading = asyncio.create_task(_read(link, outcome, news, slow=plan.end == "slow"))
                try:
                    await _send(plan, link, outcome, news)
                    await _finish(plan, verdict, link, outcome, news)
                    if plan.end not in ("close", "reset"):
                        await reading
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
        except TimeoutError:
            outcome.late = True
        if plan.end == "reset":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return outcome


async def _send(plan: Plan, link: socket.socket, outcome: Outcome, news: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for piece in plan.pieces:
        await _until(piece.answers, outcome, news)
        if piece.stall:
            await asyncio.sleep(piece.stall)
        try:
            await loop.sock_sendall(link, piece.data)
        except OSError:  # the server has closed; what it answered before is still to be read
            outcome.was_reset = True
            return


async def _finish(plan: Plan, verdict: Verdict, link: socket.socket, outcome: Outcome, news: asyncio.Event) -> None:
    if plan.end == "wait" and not verdict.partial:
        await _until(10**9 if verdict.closed else len(verdict.wants), outcome, news)
    if plan.end not in ("close", "reset"):
        try:
            link.shutdown(socket.SHUT_WR)
        except OSError:
            outcome.was_reset = True


async def _until(answers: int, outcome: Outcome, news: asyncio.Event) -> None:
    """Wait until so many answers have come, or the connection has ended."""
    while len(outcome.reader.answers) < answers and not outcome.closed and not outcome.reader.fault:
        news.clear()
        await news.wait()


async def _read(link: socket.socket, outcome: Outcome, news: asyncio.Event, *, slow: bool) -> None:
    loop = asyncio.get_running_loop()
    while not outcome.closed:
        if slow:
            await asyncio.sleep(0.001)
        try:
            data = await loop.sock_recv(link, 4096 if slow else 262144)
        except OSError:
            data = b""
            outcome.was_reset = True
        outcome.reader.feed(data)
        outcome.closed = not data
        news.set()


def differences(plan: Plan, verdict: Verdict, outcome: Outcome) -> list[str]:
    """In what an outcome is not what it must be; nothing where it is."""
    reader = outcome.reader
    if reader.fault:
        return [reader.fault]
    found = [
        f"answer {number}: {fault}"
        for number, (want, answer) in enumerate(zip(verdict.wants, reader.answers, strict=False))
        if (fault := _difference(want, answer, asked=plan.end != "wait" or verdict.partial))
    ]
    whole = plan.end not in ("close", "reset")  # else an answer may be under way, and the last requests unsent
    if len(reader.answers) > len(verdict.wants):
        found.append(f"{len(reader.answers)} answers, wanted {len(verdict.wants)}")
    if outcome.late:
        found.append(f"not over after {SECONDS} s, with {len(reader.answers)} of {len(verdict.wants)} answers")
    elif whole:
        for number, want in enumerate(verdict.wants[len(reader.answers) :], len(reader.answers)):
            if not want.silent and not _ended(verdict.wants[:number], reader.answers):
                found.append(f"answer {number}: none, wanted {_statuses(want)}; reset: {outcome.was_reset}")
            break
        if reader.rest:
            found.append(f"part of an answer: {reader.rest[:100]!r}")
    for number, (want, answer) in enumerate(zip(verdict.wants, reader.answers[:-1], strict=False)):
        if _closes(want, answer):
            found.append(f"answer {number}: another follows, and it was refused with {answer.status}")
    return found


def _closes(want: Want, answer: Answer) -> bool:
    """Whether the connection must close after this answer; not so where its status may also be that of a good one."""
    refused = answer.status in want.refused and (
        answer.status not in want.ok | want.early or answer.headers.get("connection") == "close"
    )
    return want.last or refused or answer.status not in want.ok


def _ended(wants: list[Want], answers: list[Answer]) -> bool:
    """Whether the last answer was one after which the connection closes, though it need not have been."""
    return bool(answers) and len(answers) == len(wants) and (wants[-1].may_end or _closes(wants[-1], answers[-1]))


def _difference(want: Want, answer: Answer, *, asked: bool) -> str:
    """`asked`: a client that sent no more may be asked, by an interim answer, whether it is still there."""
    if answer.status not in want.ok | want.refused | want.early:
        return f"{answer.status}, wanted {_statuses(want)}: {answer.body[:200]!r}"
    if answer.interim > want.interim + asked:
        return f"{answer.interim} times 100 Continue"
    says = answer.headers.get("connection") == "close"
    refused = answer.status in want.refused and (answer.status not in want.ok | want.early or (says and not want.last))
    identity = answer.headers.get("x-request-id", "")
    if not identity or (identity != want.request_id and want.request_id and answer.status not in want.refused):
        return f"it is for {identity!r}, not for {want.request_id}"
    if answer.status == 200 and want.content is not None and answer.body != want.content and not want.bare:
        return f"200 with another body: {answer.body[:200]!r}"
    if (refused or want.last) and not says and answer.status not in want.early:
        return f"{answer.status} does not say that the connection closes"
    if says and not (refused or want.last):
        return f"{answer.status} says that the connection closes"
    return ""


def _statuses(want: Want) -> str:
    return "/".join(str(status) for status in sorted(want.ok | want.refused | want.early))
