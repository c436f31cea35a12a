"""What a request costs: processor time of the service and of the balancers in front, and bytes on the network.

    python -m bench.capacity [--seconds 1.5] [--rounds 5]

Each request is asked for without a pause on several connections. What counts is the processor time that the server's
threads used, the kernel's part included, for each answer, which other processes on the machine disturb least; the
figure is the median of rounds. A core carries what it would at 100 %. Needs nginx and HAProxy. Markdown on standard
output; about four minutes.

Bytes are those on an Ethernet with TCP/IP: 1,448 bytes in a frame, which adds 90. Cores and network for a million
digits a second follow from these figures.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench import streams
from bench.machine import machine
from bench.serving import traffic
from bench.serving.servers import free_ports
from bench.serving.traffic import Request
from harness import openloop
from harness.balancers import KINDS, balancing
from harness.connection import Connection
from harness.servers import Server, running
from harness.streams import Stream

CONNECTIONS: Final = 32
CONNECTIONS_BATCH: Final = 4
WITHOUT_PAUSE: Final = 1e9  # requests a second: as fast as connections are idle

SEGMENT: Final = 1448  # bytes of data in a frame of 1,500 with IPv4 and TCP's timestamps
FRAME: Final = 90  # what else a frame has: 52 of TCP/IP, 18 of Ethernet, 20 of its preamble and gap

REQUESTS: Final[dict[str, Request]] = {
    "`/encode` JSON, 1": traffic.ENCODE,
    "`/encode` PNG, 1": traffic.SINGLE["/encode PNG to JSON"],
    "`/encode` npy to npy, 1": traffic.SINGLE["/encode npy to npy"],
    "`/reconstruct` JSON, 1": traffic.SINGLE["/reconstruct JSON to JSON"],
    "`/sample` JSON, 8": traffic.SAMPLE,
    "`/score` JSON, 1": Request("/score", traffic.json_body(1)),
    "`/v2/.../infer` binary, 1": traffic.graph_request(binary=True),
    "`/encode` JSON, 256": traffic.batch("encode JSON", 256),
    "`/encode` npy to npy, 256": traffic.batch("encode npy", 256),
    "`/reconstruct` JSON, 256": traffic.batch("reconstruct JSON", 256),
    "`/score` JSON, 256": traffic.batch("score JSON", 256),
}
STREAMED: Final = "`/encode` NDJSON, a stream's line"
BALANCED: Final = ("`/encode` JSON, 1", "`/encode` npy to npy, 256")


class Process(Protocol):
    """What uses processor time."""

    def cpu_seconds(self) -> float:
        """The processor time that it has used."""


@dataclass(frozen=True)
class Cost:
    """Of one request: images in it, microseconds of the processor, bytes on the network in and out."""

    images: int
    microseconds: float
    received: int
    sent: int

    @property
    def rate(self) -> float:
        """Requests a second of one core."""
        return 1e6 / self.microseconds

    def digits(self) -> tuple[float, float, float]:
        """For a million digits a second: cores, and Gbit/s in and out."""
        received, sent = (8e-3 * each / self.images for each in (self.received, self.sent))
        return self.microseconds / self.images, received, sent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}.\n")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log", models="mnist-mlp") as server:
        costs = measured(server.port, server, REQUESTS, options.seconds, options.rounds)
        costs[STREAMED] = streamed(server, options.rounds)
        balanced = {kind: balancer(kind, server.port, options.seconds, options.rounds) for kind in KINDS}
    print("| request, images | us | requests/s of a core | images/s of a core | bytes in | bytes out |")
    print("|---|---|---|---|---|---|")
    for name, cost in costs.items():
        images = f"{cost.rate * cost.images:,.0f}"
        print(
            f"| {name} | {cost.microseconds:,.1f} | {cost.rate:,.0f} | {images} | {cost.received:,} | {cost.sent:,} |"
        )
    print("\n| a million digits a second | cores of the service | of HAProxy | of nginx | Gbit/s in | Gbit/s out |")
    print("|---|---|---|---|---|---|")
    for name in (*BALANCED, STREAMED):
        cores, received, sent = costs[name].digits()
        others = [f"{cost[name].digits()[0]:.2g}" if name in cost else "" for cost in balanced.values()]
        print(f"| {name} | {cores:.3g} | {' | '.join(others)} | {received:.2g} | {sent:.2g} |")
    print("\n| a request through it | us of HAProxy | requests/s of a core | us of nginx | requests/s of a core |")
    print("|---|---|---|---|---|")
    for name in BALANCED:
        cells = [f"{cost[name].microseconds:.1f} | {cost[name].rate:,.0f}" for cost in balanced.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def measured(port: int, process: Process, requests: dict[str, Request], seconds: float, rounds: int) -> dict[str, Cost]:
    """The cost of each request, to a process that takes them at a port."""
    spent: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            before = process.cpu_seconds()
            answers = ask(port, request, seconds)
            spent[name].append(1e6 * (process.cpu_seconds() - before) / answers)
    return {
        name: Cost(request.images, statistics.median(spent[name]), *wire_bytes(port, request))
        for name, request in requests.items()
    }


def ask(port: int, request: Request, seconds: float) -> float:
    """Ask without a pause; how many answers came. Raises RuntimeError where one was not good."""
    connections = CONNECTIONS if request.images < 100 else CONNECTIONS_BATCH
    said = openloop.run_apart(port, request.head(port) + request.body, WITHOUT_PAUSE, seconds, connections)
    if said["failed"]:
        raise RuntimeError(f"{request.path}: {said}")
    return float(said["rate"] * seconds)


def wire_bytes(port: int, request: Request) -> tuple[int, int]:
    """Bytes of a request and of its answer on the network, heads included."""
    data = request.head(port) + request.body
    with Connection(port) as connection:
        answer = connection.ask(data)
    head = sum(len(name) + len(value) + 4 for name, value in answer.headers.items()) + len("HTTP/1.1 200 OK\r\n\r\n")
    return on_wire(len(data)), on_wire(head + len(answer.body))


def on_wire(size: int) -> int:
    """Bytes on an Ethernet for so many bytes of a connection, without those of acknowledgements alone."""
    return size + FRAME * math.ceil(size / SEGMENT)


def streamed(server: Server, rounds: int) -> Cost:
    """The cost of one line of a stream."""
    pieces = [streams.LINES] * (streams.IMAGES // streams.BATCH)
    costs = [streams.rate(server, lambda: streams.stream(server.port, "/encode", pieces, {}))[1] for _ in range(rounds)]
    with Stream(server.port) as stream:
        stream.send(streams.LINES)
        stream.end()
        sent = sum(map(len, stream.pieces()))
    received, answered = (on_wire(size) // streams.BATCH for size in (len(streams.LINES), sent))
    return Cost(1, 1e6 * statistics.median(costs) / streams.IMAGES, received, answered)


def balancer(kind: str, server: int, seconds: float, rounds: int) -> dict[str, Cost]:
    """What a request through a balancer costs the balancer."""
    requests = {name: REQUESTS[name] for name in BALANCED}
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder, balancing(kind, [server], Path(folder), port) as process:
        return measured(port, process, requests, seconds, rounds)


if __name__ == "__main__":
    main()
