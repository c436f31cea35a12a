"""`python -m tests.hostile [--connections 100000] [--minutes 30]`: the long form of test_generator.py.

Starts a server of its own on a free port, plays that many hostile connections against it, and prints what came of it;
exit status 1 when an answer was not what it must be, or the memory grew. `--seed N` plays one of them, made as simple
as still fails, and shows what is sent, what must come and what came.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from harness.servers import Server, running
from tests.hostile.client import play
from tests.hostile.generator import Plan, generate
from tests.hostile.questions import SETTINGS, Truth
from tests.hostile.reference import judge
from tests.hostile.runner import Report, one, run, shrunk

GROWTH: Final = 50e6  # bytes of memory
SHOWN: Final = 1_500  # bytes of a piece


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=30, help="after which no other connection is begun")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="vae-hostile-") as folder,
        running(Path(folder) / "log", **SETTINGS) as server,
    ):
        try:
            truth = Truth(server.port)
            if options.seed is not None:
                good = _one(server, truth, options.seed)
            else:
                seeds = range(options.first, options.first + options.connections)
                good = _many(server, truth, seeds, options.minutes * 60)
        finally:
            log = server.log.read_text()
            failed = "Traceback" in log or "ERROR" in log or server.process.poll() is not None
            if failed:
                print(log[-10_000:], file=sys.stderr)
        return 0 if good and not failed else 1


def _many(server: Server, truth: Truth, seeds: range, seconds: float) -> bool:
    shown = 0

    def say(report: Report) -> None:
        nonlocal shown
        line = f"{report.seconds:6.0f} s  {report.connections:,} connections, {report.requests:,} requests, "
        line += f"{len(report.found)} differences, {server.memory() / 1e6:.0f} MB"
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
        for each in report.found[shown:]:
            print(f"\n{each}", file=sys.stderr)
        shown = len(report.found)

    report = asyncio.run(run(server, truth, seeds, warm=min(5_000, len(seeds) // 5), seconds=seconds, say=say))
    say(report)
    before, after = report.memory
    print(
        f"\n{report.connections:,} connections, {report.requests:,} requests in {report.seconds:.0f} s; "
        f"{len(report.found)} differences; "
        f"memory {before / 1e6:.0f} MB after the warm-up, {after / 1e6:.0f} MB at the end."
    )
    return not report.found and after - before < GROWTH


def _one(server: Server, truth: Truth, seed: int) -> bool:
    def fails(plan: Plan) -> bool:
        return bool(asyncio.run(one(plan, truth, server.port)))

    plan = generate(seed, truth)
    good = not fails(plan)
    _show(server, truth, plan if good else shrunk(plan, fails))
    return good


def _show(server: Server, truth: Truth, plan: Plan) -> None:
    """Print what is sent, what must come, and what came."""
    for piece in plan.pieces:
        data = (
            piece.data if len(piece.data) < SHOWN else piece.data[: SHOWN // 2] + b" ... " + piece.data[-SHOWN // 2 :]
        )
        print(f"sent: {len(piece.data)} bytes after {piece.stall} s and {piece.answers} answers: {data!r}")
    print("end:", plan.end)
    verdict = judge(plan.data, truth)
    for want in verdict.wants:
        print("wanted:", {name: value for name, value in vars(want).items() if value and name != "content"})
    outcome = asyncio.run(play(plan, verdict, server.port))
    for answer in outcome.reader.answers:
        print("came:", answer.status, answer.headers, answer.body[:200])
    print(f"closed by the server: {outcome.closed}, wanted: {verdict.closed}; reset: {outcome.was_reset}")
    print(*(asyncio.run(one(plan, truth, server.port)) or ["no difference"]), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
