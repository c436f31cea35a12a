"""From one machine to 1,000 replicas: a queueing simulation, compared with this machine first.

    python -m bench.scaling [--picture docs/scaling.svg]

Three parts, each with the figures of the one before: one worker, measured and simulated at the same loads; up to
1,000 replicas behind balancers with several policies; and an autoscaler under loads that grow at once. What the
models are is said in `harness.queueing` and `harness.autoscaler`. Three minutes; Markdown on standard output.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from bench import one_machine
from bench.machine import machine
from bench.one_machine import MOST, Model
from harness.autoscaler import Autoscaler, Course, Usage, held, scale
from harness.queueing import Floats, Policy, bursts, poisson, simulate
from harness.servers import running

CLUSTERS: Final = ((2, 1), (20, 2), (1000, 100))  # replicas and balancers
POLICIES: Final[tuple[Policy, ...]] = ("random", "round robin", "two choices", "least connections")
LOAD: Final = 0.5  # of what all replicas can answer
REQUESTS: Final = 300_000
QUEUE: Final = 4096  # VAE_QUEUE
BEGIN: Final = 200  # replicas
TARGETS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
STARTS: Final = (15, 120)  # seconds: on a node that is there, and on a new one
GROWTHS: Final = (2, 3, 5)
BEFORE: Final = 60  # seconds at the first load
AFTER: Final = 900


def main() -> None:
    """Measure, simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling")
    parser.add_argument("--picture", type=Path, help="where to draw how replicas follow a load (needs matplotlib)")
    options = parser.parse_args()
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}.\n\n### One worker, measured and simulated\n")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log", models="mnist-mlp") as server:
        model, used = one_machine.compare(server)
    print("\n### Replicas and policies, at half of what they can answer\n")
    policies(model)
    print("\n### What a replica carries at which processor time\n")
    usage = curve(used)
    print("| processor time | " + " | ".join(f"{target:.0%}" for target in TARGETS) + " |")
    print("|---" * (len(TARGETS) + 1) + "|")
    print("| requests/s | " + " | ".join(f"{held(usage, each) * model.capacity:,.0f}" for each in TARGETS) + " |")
    print("| load | " + " | ".join(f"{held(usage, each):.0%}" for each in TARGETS) + " |")
    print(f"\n### An autoscaler when the load of {BEGIN} replicas grows at once\n")
    courses = autoscaler(usage, model.capacity)
    if options.picture:
        draw(options.picture, courses)


def policies(model: Model) -> None:
    """How long requests take, by the policy: of independent clients, and of clients that send 64 within 1 ms."""
    heads = (
        f"{replicas:,} replicas, {balancers} balancers: p50 ms | p99 | bursts: p99" for replicas, balancers in CLUSTERS
    )
    print(f"| | {' | '.join(heads)} |")
    print("|---" * (3 * len(CLUSTERS) + 1) + "|")
    for policy in POLICIES:
        cells = []
        for replicas, balancers in CLUSTERS:
            rate, seconds = LOAD * model.capacity * replicas, REQUESTS / (LOAD * model.capacity * replicas)
            alone = poisson(rate, seconds, np.random.default_rng(2))
            together = bursts(rate, seconds, np.random.default_rng(2), size=64)
            of = [
                simulate(
                    arrivals,
                    model.turns.varying(model.spread, np.random.default_rng(1)),
                    replicas=replicas,
                    policy=policy,
                    most=MOST,
                    balancers=balancers,
                )
                for arrivals in (alone, together)
            ]
            one, other = (1e3 * np.percentile(times[len(times) // 3 :], [50, 99]) for times in of)  # all begin idle
            cells.append(f"{one[0]:.2f} | {one[1]:.2f} | {other[1]:.2f}")
        print(f"| {policy} | {' | '.join(cells)} |", flush=True)


def curve(used: Mapping[float, float]) -> Usage:
    """The processor time that a replica uses at a load, by straight lines between what was measured."""
    points = {0.0: 0.0, **used, 1.0: 1.0}
    loads, times = np.array(sorted(points)), np.maximum.accumulate([points[load] for load in sorted(points)])
    return lambda load: float(np.interp(load, loads, times))


def autoscaler(usage: Usage, capacity: float) -> dict[str, tuple[Floats, Course]]:
    """What is refused when the load grows, by target and by how long replicas take to start; the courses to draw."""
    print(
        "| target | replicas before | "
        + " | ".join(f"x{growth}, start {start} s" for start in STARTS for growth in GROWTHS)
        + " |"
    )
    print("|---" * (2 + len(STARTS) * len(GROWTHS)) + "|")
    courses = {}
    for target in TARGETS:
        cells, before = [], 0.0
        for start in STARTS:
            for growth in GROWTHS:
                load = np.full(BEFORE + AFTER, BEGIN * held(usage, target))
                load[BEFORE:] *= growth
                settings = Autoscaler(target, least=2, most=10_000, start=start)
                course = scale(load, settings, usage, QUEUE / capacity)
                before = course.ready[0]
                refused = course.refused[: BEFORE + 300].sum() / load[BEFORE : BEFORE + 300].sum()
                bad = int((course.refused > 0).sum())
                cells.append(f"{refused:.1%}, {bad} s; {course.ready.max():,.0f}")
                courses[f"{target:.0%}, x{growth}, start {start} s"] = (load, course)
        print(f"| {target:.0%} | {before:,.0f} | {' | '.join(cells)} |", flush=True)
    print("\nOf the first five minutes: the part that is refused, for how many seconds; the most replicas.")
    return courses


def draw(path: Path, courses: Mapping[str, tuple[Floats, Course]]) -> None:
    """Replicas that are ready, and those that the load needs at the least."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "vae", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for name in ("60%, x5, start 120 s", "70%, x5, start 120 s", "90%, x5, start 120 s"):
        load, course = courses[name]
        axes.plot(course.ready[:600], label=f"ready: {name}")
        axes.plot(load[:600], linestyle=":", color=axes.lines[-1].get_color())
    axes.set(xlabel="seconds", ylabel="replicas", title="Dotted: how many the load needs if each does all that it can")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
