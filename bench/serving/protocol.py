"""`python -m bench.serving.protocol`: the Open Inference Protocol beside PyTriton, MLServer and this service's /encode.

    python -m bench.serving.protocol [--rounds 12] [--environments DIR]

Every server gets the same bytes: one digit's pixels for the encoder, in JSON or as binary tensors. Rates are compared
in turns, each server paused while another is measured. Three minutes; needs wrk. Markdown on standard output.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import onnxruntime as ort

from bench.machine import machine
from bench.serving import closed, servers, traffic, venvs
from bench.serving.closed import Load
from bench.serving.programs import MLSERVER, PYTRITON, SERVICE, Program
from bench.serving.rounds import AT, TURN_SECONDS
from bench.serving.servers import Server
from bench.serving.traffic import Request
from harness.digits import decoded
from harness.paths import MODELS, ROOT

JSON: Final = traffic.graph_request(binary=False)
BINARY: Final = traffic.graph_request(binary=True)
NPY: Final = traffic.SINGLE["/encode npy to npy"]
PEERS: Final[tuple[tuple[Program, str, Request], ...]] = (
    (PYTRITON, "binary", BINARY),
    (PYTRITON, "JSON", JSON),
    (MLSERVER, "JSON", JSON),  # it has no binary tensors over REST
)
BAR: Final = 0.9  # of /encode, npy to npy


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.protocol")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each pair")
    parser.add_argument("--environments", type=Path, metavar="DIR", default=ROOT / ".bench" / "venvs")
    options = parser.parse_args()
    closed.wrk()
    bundle = MODELS / "mnist-mlp" / "2"
    env = {"BENCH_ENCODER": str(bundle / "encoder.onnx"), "VAE_PROVIDER": "cpu", "VAE_LOG_LEVEL": "error"}
    session = ort.InferenceSession(env["BENCH_ENCODER"], providers=["CPUExecutionProvider"])
    mu = session.run(["mu"], {"image": decoded(traffic.pictures(1)[0])[None]})[0][0]
    noise, rows = list[float](), list[str]()

    def turns(ours: tuple[Server, Request, int], other: tuple[Server, Request, int], rounds: int) -> list[list[Load]]:
        pairs = []
        for _ in range(rounds):
            pair = [_turn(one, another) for one, another in ((ours, other), (other, ours))]
            noise.extend(load.other_cores for load in pair)
            pairs.append(pair)
        return pairs

    with servers.running(replace(SERVICE, request=BINARY), sys.executable, env) as ours:
        servers.check(ours, mu)
        own = turns((ours, BINARY, AT), (ours, NPY, AT), 2 * options.rounds)
        shares = sorted(one.rate / other.rate for one, other in own)
        infer, encode = (median(pair[index].rate for pair in own) for index in (0, 1))
        costs = [median(_cost(pair[index]) for pair in own) for index in (0, 1)]
        for program, form, request in PEERS:
            python = venvs.python(program.environment or "", options.environments.absolute())
            with servers.running(replace(program, request=request), python, env) as peer:
                servers.check(peer, mu)
                best = max((16, AT, 64), key=lambda connections: closed.closed(peer, request, connections, 1).rate)
                found = turns((ours, request, AT), (peer, request, best), options.rounds)
            rows += _rows(program.name, form, best, found)
    print(f"{machine()}; other processes used {median(noise):.2f} cores, load average {os.getloadavg()[0]:.1f}.\n")
    print("| | requests/s | this service | of it, pairs in turns |\n| --- | --- | --- | --- |", *rows, sep="\n")
    low, high = shares[len(shares) // 4], shares[-1 - len(shares) // 4]
    print(
        f"\nBinary infer, of `/encode` npy to npy: {median(shares):.3f}, the middle half {low:.3f} to {high:.3f} of "
        f"{len(shares)} pairs ({infer:,.0f} and {encode:,.0f} requests/s); wanted: at least {BAR}. "
        f"By processor time, which other processes disturb less: {costs[1] / costs[0]:.3f} ({costs[0]:.1f} and "
        f"{costs[1]:.1f} us a request)."
    )
    return 0 if median(shares) >= BAR else 1


def _turn(measured: tuple[Server, Request, int], other: tuple[Server, Request, int]) -> Load:
    server, request, connections = measured
    if server is other[0]:
        return closed.closed(server, request, connections, TURN_SECONDS)
    with other[0].paused():
        return closed.closed(server, request, connections, TURN_SECONDS)


def _cost(load: Load) -> float:
    """Microseconds of the server's processor time for one request."""
    return load.server_cores / load.rate * 1e6


def _rows(name: str, form: str, connections: int, pairs: list[list[Load]]) -> Iterator[str]:
    ours, theirs = (median(pair[index].rate for pair in pairs) for index in (0, 1))
    times = median(one.rate / other.rate for one, other in pairs)
    yield f"| {name}, {form}, {connections} connections | {theirs:,.0f} | {ours:,.0f} | {times:.3g} times |"


if __name__ == "__main__":
    sys.exit(main())
