"""One worker and its load generator on this machine: what turns cost, and latencies beside those of a simulation.

Others use the machine, too, and what they take is not the service's. So, where that is allowed, the worker and the
generator each have a core for themselves while they are measured (SCHED_FIFO, and pinned).
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.serving.traffic import ENCODE
from harness import openloop
from harness.connection import Connection, request
from harness.queueing import Floats, Generator, MeasuredTurns, beside_generator
from harness.servers import Server, cpu_seconds_of_children

CONNECTIONS: Final = 64
MOST: Final = 256  # the default of VAE_BATCH, for requests of one image
SECONDS: Final = (
    0.8  # the kernel gives others a twentieth of each second, 50 ms at once: less than a second is not disturbed
)
REPEATS: Final = 7
FULL: Final = (1, 2, 4, 8, 16, 32, 64)  # connections that are never idle, with which turns are measured
WAKES: Final = 3  # of a request that is rare: the client to send it, the worker, the client to receive the answer
RARE: Final = 0.05  # load at which nearly every request finds the worker asleep
COMPARED_AT: Final = (0.1, 0.2, 0.35, 0.5, 0.65, 0.85)  # loads in an open loop, as parts of the capacity
METRICS: Final = request("/metrics", None, method="GET")
ALL_RATES: Final = 1e9
NORMAL_99: Final = 2.326  # standard deviations from a normal distribution's median to its 99th percentile


@dataclass(frozen=True)
class Run:
    """An open loop: answers a second, milliseconds; requests in a turn, processor seconds of a request."""

    rate: float
    p50: float
    p99: float
    sent50: float
    sent99: float
    together: float
    processor: float
    generator: float  # processor seconds of the generator in all


@dataclass(frozen=True)
class Model:
    """What the simulation knows of the machine."""

    turns: MeasuredTurns
    spread: float  # standard deviation of the logarithm of a turn's duration
    generator: Generator
    wakes: Floats  # seconds that waking up takes, a sample
    cold: float  # seconds more of a rare request than of one just after another
    capacity: float


def have_core(pid: int, core: int) -> bool:
    """Give all threads of a process (0: this one) a core before all others. Whether that was allowed."""
    try:
        for thread in Path(f"/proc/{pid or 'self'}/task").iterdir():
            os.sched_setaffinity(int(thread.name), [core])
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


def run(server: Server, rate: float, connections: int = CONNECTIONS, seconds: float = SECONDS) -> Run:
    """Measure an open loop of single digits. Raises RuntimeError where an answer was not good."""
    core = max(os.sched_getaffinity(0))
    data = ENCODE.head(server.port) + ENCODE.body
    turns, used, own = _turns(server), server.cpu_seconds(), cpu_seconds_of_children()
    said = openloop.run_apart(server.port, data, rate, seconds, connections, lambda: have_core(0, core))
    used, own, turns = server.cpu_seconds() - used, cpu_seconds_of_children() - own, _turns(server) - turns
    if said["failed"]:
        raise RuntimeError(f"{ENCODE.path}: {said}")
    answers = said["rate"] * seconds
    p50, p99, sent50, sent99 = (float(said[name]) for name in ("p50", "p99", "sent50", "sent99"))
    return Run(said["rate"], p50, p99, sent50, sent99, answers / turns, used / answers, own)


def model(server: Server) -> Model:
    """Measure what the simulation has to know, at loads that it is not compared at."""
    capacity = run(server, ALL_RATES).rate
    short, long = (run(server, ALL_RATES, seconds=seconds) for seconds in (0.3, 0.9))
    each = (long.generator - short.generator) / (0.9 * long.rate - 0.3 * short.rate)
    points, spreads = [], []
    for connections in FULL:
        runs = sorted((run(server, ALL_RATES, connections) for _ in range(3)), key=lambda found: found.sent50)
        points.append((runs[1].together, runs[1].sent50 / 1e3 - each))
        spreads.append(math.log(runs[1].sent99 / runs[1].sent50) / NORMAL_99)
    counts, seconds = zip(*sorted(points), strict=True)
    alone = np.concatenate([pings(server) for _ in range(REPEATS)])
    # What a request alone takes in the median is work. The rest is waiting until the worker or the client wakes up.
    wakes = np.maximum(0.0, alone - np.median(alone))
    # One that comes after a while takes longer than one after the other: what slept finds others' data in the caches.
    cold = max(0.0, run(server, RARE * capacity).p50 / 1e3 - float(np.median(alone)))
    spread = statistics.median(spreads[len(spreads) // 2 :])
    return Model(MeasuredTurns(counts, seconds), spread, Generator(each / 2, each / 2), wakes, cold, capacity)


def pings(server: Server) -> list[float]:
    """Seconds of one digit after the other on one connection."""
    core = max(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "bench.one_machine", str(server.port)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=lambda: have_core(0, core))
    return list(json.loads(done.stdout))


def main() -> None:
    """Ask for one digit after the other at a port, and print how long each took."""
    data, found = ENCODE.head(int(sys.argv[1])) + ENCODE.body, []
    with Connection(int(sys.argv[1])) as connection:
        end = time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < end:
            connection.ask(data)
            found.append(time.perf_counter() - began)
    print(json.dumps(found[100:]))


def simulated(found: Model, rate: float) -> tuple[float, float, float]:
    """Answers a second, p50 and p99 in milliseconds, of the requests that `run` sends: the medians over paces."""
    arrivals = np.array(openloop.arrivals(rate, SECONDS))
    rows = []
    for seed in range(REPEATS):
        draw = np.random.default_rng(seed)
        # Of two that wake up for a request, one is late at random.
        times = beside_generator(
            arrivals,
            found.turns.varying(found.spread, draw),
            found.generator,
            _draws(found, draw),
            most=MOST,
            connections=CONNECTIONS,
        )
        rows.append([len(times) / SECONDS, *(1e3 * np.percentile(times, [50, 99])).tolist()])
    answers, p50, p99 = map(statistics.median, zip(*rows, strict=True))
    return answers, p50, p99


def _draws(found: Model, draw: np.random.Generator) -> Iterator[float]:
    """Seconds of waking up. Of two that wake up for a request alone one, at random, is as late as in the sample."""
    while True:
        late = np.where(draw.random(4096) < 0.5, draw.choice(found.wakes, 4096), 0.0)
        yield from (late + found.cold / WAKES).tolist()


def compare(server: Server) -> tuple[Model, dict[float, float]]:
    """Measure, simulate, print both. Gives the model, and by load the processor time that the worker used, 0..1."""
    allowed = have_core(server.process.pid, min(os.sched_getaffinity(0)))
    found, used = model(server), {}
    turns = ", ".join(
        f"{1e6 * seconds:,.0f} us ({count:.1f})"
        for count, seconds in zip(found.turns.counts, found.turns.seconds, strict=True)
    )
    each = found.generator.send + found.generator.receive
    print(
        f"- A core each for the worker and the generator: {'yes' if allowed else 'not allowed here'}.\n"
        f"- A turn, and the requests in it: {turns}; the deviation of its logarithm: {found.spread:.2f}.\n"
        f"- Waking up: {1e6 * found.cold / WAKES:.0f} us, {1e6 * np.quantile(found.wakes, 0.9):.0f} more in a tenth, "
        f"{1e6 * np.quantile(found.wakes, 0.99):.0f} in a hundredth.\n"
        f"- The generator: {1e6 * each:.1f} us a request.\n"
        f"- At most {found.capacity:,.0f} answers/s on {CONNECTIONS} connections: 100 % in this table.\n"
    )
    print("| load | processor | answers/s | simulated | p50 ms | simulated | off | p99 ms | simulated | off |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for load in COMPARED_AT:
        runs = [run(server, load * found.capacity) for _ in range(REPEATS)]
        names = ("rate", "p50", "p99", "processor")
        rate, p50, p99, processor = (statistics.median(getattr(one, name) for one in runs) for name in names)
        of_it = simulated(found, load * found.capacity)
        used[load] = min(1.0, rate * processor)
        pairs = ((p50, of_it[1]), (p99, of_it[2]))
        cells = [f"{real:.3f} | {other:.3f} | {other / real - 1:+.0%}" for real, other in pairs]
        print(f"| {load:.0%} | {used[load]:.0%} | {rate:,.0f} | {of_it[0]:,.0f} | {' | '.join(cells)} |", flush=True)
    return found, used


def _turns(server: Server) -> float:
    """How many runs of the encoder there have been."""
    with Connection(server.port) as connection:
        text = connection.ask(METRICS).body.decode()
    return sum(map(float, re.findall(r'vae_batch_size_images_count\{[^}]*run="encode"[^}]*\} (\S+)', text)))


if __name__ == "__main__":
    main()
