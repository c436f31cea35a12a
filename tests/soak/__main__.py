"""`python -m tests.soak [--minutes 30] [--provider cuda]`: the long form of tests/e2e/test_soak.py.

Starts a server of its own, with default settings, on a free port. First mixed traffic, with every answer checked and
the memory watched; then twice the capacity for a minute. Prints the figures of docs/reliability.md; exit status 1 when
a promise does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from harness.servers import Server, running
from tests.soak import mixed, overload


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30, help="of mixed traffic; twice the capacity takes one more")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu", help="of onnxruntime (default: cpu)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="vae-soak-") as folder,
        running(Path(folder) / "log", default_model="mnist-mlp@1", provider=options.provider) as server,
    ):
        good = _soak(server, options.minutes, exact=options.provider == "cpu")
        print(server.log.read_text(), file=sys.stderr)
        return 0 if good else 1


def _soak(server: Server, minutes: float, *, exact: bool) -> bool:
    shown: list[str] = []

    def say(report: mixed.Report) -> None:
        seconds, size = report.resident[-1]
        line = f"{seconds:6.0f} s  {report.answers:,} answers, {len(report.wrong)} wrong, {size / 1e6:.0f} MB"
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
        while len(shown) < len(report.wrong):
            shown.append(report.wrong[len(shown)])
            print(f"\n{shown[-1]}", file=sys.stderr)

    report = asyncio.run(mixed.run(server.url, server.process.pid, minutes * 60, exact=exact, say=say))
    settled = min(300.0, minutes * 60 / 3)
    growth = report.growth(settled)
    print(f"\n{report.answers:,} answers for {report.images:,} images, {report.bad:,} to bad requests; ", end="")
    print(f"{len(report.wrong)} wrong; memory grew by {growth:.1%} after {settled:.0f} s.")
    found = overload.measure(server.port, 60)
    print(
        f"Offered {found.offered:,.0f} requests/s of {overload.IMAGES} images on {overload.CONNECTIONS} connections, "
        f"twice the capacity of {found.capacity:,.0f}: goodput {found.goodput / found.capacity:.2f} of it, p99 "
        f"{found.p99:.0f} ms of {overload.DEADLINE_MS}; {found.refused:,} refused, p99 {found.refused99:.0f} ms; "
        f"{found.expired} expired; {found.other} others."
    )
    good = (
        not report.wrong
        and growth < 0.05
        and found.goodput > 0.8 * found.capacity
        and found.expired == found.other == 0
    )
    return good and found.p99 < overload.DEADLINE_MS


if __name__ == "__main__":
    sys.exit(main())
