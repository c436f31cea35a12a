"""What Ray Serve costs: this service alone, and the same application as one replica behind each of Ray's proxies.

    make test-ray && .venv/bin/python -m bench.ray_serve

The three take turns in one run: only ratios mean anything, the machine may be shared. The others are idle meanwhile.
Processor time is that of all processes that a server has, Ray's own included, for each request; the load generator is
not in it. `make test-ray` makes the environment that Ray needs.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from bench.machine import machine
from bench.serving import servers
from bench.serving.closed import Load, closed
from bench.serving.programs import RAY_HAPROXY, SERVICE, Program
from bench.serving.traffic import ENCODE, Request, batch
from harness.paths import MODELS, ROOT

ROUNDS: Final = 3
# In turns of one second, on a busy machine, Ray's own proxy answered nothing.
SECONDS: Final = 4
PYTHON: Final = ROOT / ".ray" / "bin" / "python"

HAPROXY: Final = replace(
    RAY_HAPROXY, name="Ray Serve, HAProxy", command="{python} -m bench.serving.peers.ray_app {port}", request=ENCODE
)
PROXY: Final = replace(HAPROXY, name="Ray Serve, its own proxy", env=HAPROXY.env | {"RAY_SERVE_ENABLE_HA_PROXY": "0"})
PROGRAMS: Final[dict[str, Program]] = {program.name: program for program in (SERVICE, PROXY, HAPROXY)}
LOADS: Final[dict[str, tuple[Request, int]]] = {
    "one digit, 1 connection": (ENCODE, 1),
    "one digit, 32 connections": (ENCODE, 32),
    "256 digits, 4 connections": (batch("encode JSON", 256), 4),
}


def main() -> None:
    """Measure and print."""
    if not PYTHON.exists():
        sys.exit("There is no .ray: make test-ray makes it.")
    environment = {"VAE_MODELS_DIR": str(MODELS), "VAE_PROVIDER": "cpu", "VAE_LOG_LEVEL": "error"}
    found = defaultdict[tuple[str, str], list[Load]](list)
    with ExitStack() as stack:
        running = []
        for program in PROGRAMS.values():
            python = sys.executable if program is SERVICE else str(PYTHON)
            running.append(stack.enter_context(servers.running(program, python, environment)))
        for _ in range(ROUNDS):
            for what, (request, connections) in LOADS.items():
                for server in running:
                    found[server.program.name, what].append(closed(server, request, connections, SECONDS))
    print(machine())
    print("\n| `/encode` | server | requests/s | of alone | processor, us a request | times alone | p50, ms |")
    print("|---|---|---|---|---|---|---|")
    for what in LOADS:
        alone = found[SERVICE.name, what]
        for name in PROGRAMS:
            loads = found[name, what]
            each = [load.server_cores / load.rate * 1e6 for load in loads]
            rates = statistics.median(load.rate for load in loads)
            of = statistics.median(load.rate / base.rate for load, base in zip(loads, alone, strict=True))
            times = statistics.median(
                used / (base.server_cores / base.rate * 1e6) for used, base in zip(each, alone, strict=True)
            )
            p50 = statistics.median(load.p50 for load in loads)
            cells = f"{rates:,.0f} | {of:.3f} | {statistics.median(each):,.0f} | {times:.1f} | {p50:.2f}"
            print(f"| {what} | {name} | {cells} |")


if __name__ == "__main__":
    main()
