"""`python -m bench.serving`: measure everything in one go on one machine; Markdown on standard output.

    python -m bench.serving [--quick] [--only NAME,NAME] [--json FILE] [--bundle DIR] [--environments DIR]

The full run takes 28 minutes, --quick 5; the first run also installs the peers, each into an environment of
its own. Needs wrk. Ctrl-C ends it early, with a report of what is there. Only ratios within one run mean anything, the
more so on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.machine import machine
from bench.serving import closed, report
from bench.serving.programs import PEERS
from bench.serving.rounds import Benchmark, Plan
from harness.paths import MODELS, ROOT

COUNTS = (1, 16, 32, 64)
FULL = Plan(3, seconds=2, connections=COUNTS, form_seconds=1, form_connections=COUNTS, peers=PEERS)
QUICK = Plan(1, seconds=1, connections=(1, 32), form_seconds=1, form_connections=(32,), peers=PEERS)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description="How fast the service serves.")
    parser.add_argument("--quick", action="store_true", help="one short round instead of three, 5 minutes")
    parser.add_argument("--only", metavar="NAME,NAME", help="of the peers only these, by any part of their names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", default=MODELS / "mnist-mlp" / "2", help="the model to serve"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="DIR",
        default=ROOT / ".bench" / "venvs",
        help="where the peers are installed, once (default: .bench/venvs)",
    )
    options = parser.parse_args()
    closed.wrk()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped, too
    plan = QUICK if options.quick else FULL
    if options.only is not None:
        parts = [part.strip().lower() for part in options.only.split(",") if part.strip()]
        chosen = tuple(peer for peer in PEERS if any(part in peer.name.lower() for part in parts))
        plan = dataclasses.replace(plan, peers=chosen)

    began = time.monotonic()
    columns = TextColumn("{task.fields[now]}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", now="preparing", total=None)
        bench = Benchmark(
            plan,
            options.bundle.absolute(),
            options.environments.absolute(),
            lambda now: progress.update(task, now=f"round {bench.round} of {plan.rounds}: {now}"),
        )
        bench.prepare()
        progress.update(task, total=plan.rounds * len(bench.visits()))
        with contextlib.suppress(KeyboardInterrupt):  # what has been measured by then is printed
            bench.run(lambda: progress.advance(task))
    print(report.markdown(bench.results, plan, time.monotonic() - began))
    if options.json:
        raw = {"machine": machine(), "versions": report.versions(plan)} | dataclasses.asdict(bench.results)
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
