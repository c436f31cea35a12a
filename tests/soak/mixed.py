"""Mixed traffic for a long time: every answer checked against what was computed beforehand, and the memory watched."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2 as httpx

from harness.servers import memory_of
from tests.soak.truth import Truth

CLIENTS = 4


@dataclass
class Report:
    """What was answered. `resident`: (seconds since the start, bytes) of the server's process, once a second."""

    answers: int = 0
    images: int = 0
    bad: int = 0
    wrong: list[str] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)

    def growth(self, after: float) -> float:
        """How much the memory grew after `after` seconds, at its largest, as a share of what it was then."""
        start = next(size for second, size in self.resident if second >= after)
        return max(size for second, size in self.resident if second >= after) / start - 1


async def run(
    url: str,
    pid: int,
    seconds: float = math.inf,
    *,
    requests: int = sys.maxsize,
    most: int = 1024,
    seed: int = 1,
    exact: bool = True,
    say: Callable[[Report], None] | None = None,
) -> Report:
    """Send requests of 1 to `most` images from a few clients, until the time is over or each client has sent so many.

    Answers have to be `exact`, or as near as a GPU's have to be. `say` is told once a second.
    """
    truth, report = Truth(exact=exact), Report()
    began = time.monotonic()

    async def client(number: int) -> None:
        draw = random.Random(seed * 1000 + number)
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            for _ in range(requests):
                if time.monotonic() - began >= seconds:
                    break
                question = truth.ask(draw, most)
                answer = await http.post(
                    question.path, content=question.body, headers={"Content-Type": question.content_type}
                )
                report.answers += 1
                report.images += question.images
                report.bad += not question.good
                if not question.right(answer.status_code, answer.content):
                    report.wrong.append(
                        f"{question.path} of {question.images}: {answer.status_code} {answer.text[:200]}"
                    )

    async def watch() -> None:
        while True:
            report.resident.append((time.monotonic() - began, memory_of(pid)))
            if say is not None:
                say(report)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    watching.cancel()
    return report
