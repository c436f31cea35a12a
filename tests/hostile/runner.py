"""Many plans at once against one server, with a look at its health and its memory in between."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from harness.servers import Server
from tests.hostile.client import differences, play
from tests.hostile.generator import Piece, Plan, generate
from tests.hostile.questions import GOOD, Truth
from tests.hostile.reference import judge

TOGETHER: Final = 48  # connections at once
EVERY: Final = 100  # connections between two looks at the server

_LIVEZ: Final = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Report:
    """What a run found; `memory` is the server's in bytes, after the warm-up and at the end."""

    connections: int = 0
    requests: int = 0
    found: list[str] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)
    seconds: float = 0.0


async def run(
    server: Server,
    truth: Truth,
    seeds: range,
    *,
    warm: int,
    seconds: float = float("inf"),
    say: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Play the plan of each seed, as long as there are `seconds` left; the first `warm` ones warm the server up."""
    report, began = Report(), time.monotonic()
    remaining = iter(seeds)
    before = 0

    async def work(seeds: Iterator[int]) -> None:
        for seed in seeds:
            if time.monotonic() - began > seconds:
                return
            report.found += [
                f"seed {seed}: {each}" for each in await one(generate(seed, truth), truth, server.port, report)
            ]
            report.connections += 1
            if report.connections % EVERY == 0:
                report.found += [f"after seed {seed}: {each}" for each in await look(truth, server.port)]
                report.seconds = time.monotonic() - began
                say(report)

    for part in (list(itertools.islice(remaining, warm)), remaining):
        seeds_of_part = iter(part)
        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(work(seeds_of_part))
        before = before or server.memory()
    report.memory = (before, server.memory())
    report.seconds = time.monotonic() - began
    return report


async def one(plan: Plan, truth: Truth, port: int, report: Report | None = None) -> list[str]:
    """Play one plan; in what its outcome is not what it must be."""
    verdict = judge(plan.data, truth)
    outcome = await play(plan, verdict, port)
    if report is not None:
        report.requests += len(verdict.wants)
    return differences(plan, verdict, outcome)


async def look(truth: Truth, port: int) -> list[str]:
    """Whether the server is well: the liveness probe and a good request, on a connection of their own."""
    plan = Plan((_LIVEZ, GOOD), (Piece(_LIVEZ), Piece(GOOD, answers=1)), "wait")
    return await one(plan, truth, port)


def shrunk(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """A simpler plan that fails as well: fewer parts, whole, and with the plainest end."""
    for simpler in (
        replace(plan, end="half-close", pieces=(Piece(plan.data),)),
        replace(plan, end="wait", pieces=(Piece(plan.data),)),
    ):
        if fails(simpler):
            plan = simpler
            break
    number = 0
    while number < len(plan.parts):
        parts = plan.parts[:number] + plan.parts[number + 1 :]
        simpler = Plan(parts, tuple(Piece(part, 0.001) for part in parts), plan.end)
        if parts and fails(simpler):
            plan = simpler
        else:
            number += 1
    return plan
