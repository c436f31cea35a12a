"""What is measured, in which order. Each round measures everything once, the servers in turns: noise meets them all.

Rates are compared only where they were measured one right after the other, again and again. For that the bare server
and this service keep running: each of this service's measurements has one of the bare server just before it, with as
many connections, and each peer takes turns with this service.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from bench.serving import servers, traffic, venvs
from bench.serving.closed import Load, closed
from bench.serving.programs import BARE, NO_BATCHING, SERVICE, TRIVIAL, TWO_WORKERS, Program
from bench.serving.servers import Server, Unfit
from bench.serving.traffic import ENCODE, SAMPLE, Request
from bench.serving.venvs import Unavailable
from harness.digits import decoded
from harness.paths import ROOT
from service.settings import Settings

ENCODE_JSON: Final = "/encode JSON to JSON"
BATCH: Final = 256
BATCH_CONNECTIONS: Final = 4
BATCHES: Final = {  # with the part of the tight loop's rate that each is to reach
    "encode JSON": 0.6,
    "encode npy": 0.7,
    "reconstruct JSON": 0.6,
    "score JSON": 0.6,
    "interpolate JSON": 0.6,
    "traverse JSON": 0.6,
}
LARGE_BATCH: Final = 1024
AT: Final = 32  # connections that this service is compared at
# How often two servers take turns within a round, and for how long. Shared machines change their pace every few
# seconds, so many short turns say more than a few long ones.
PAIRS: Final = 6
TURN_SECONDS: Final = 1
# What a variant and the service are compared by. Two workers get eight samples a request, which cost the service ten
# times what they cost wrk: on two cores the second worker has nearly a core. Larger requests would leave the event
# loop, and one worker would use both cores.
PAIR_LOADS: Final = {NO_BATCHING.name: (ENCODE, 1), TWO_WORKERS.name: (SAMPLE, 16)}
TURNS: Final = "in turns"


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: int  # of each measurement of a program
    connections: tuple[int, ...]  # with which each program is measured
    form_seconds: int  # the same of this service's other forms of request and answer
    form_connections: tuple[int, ...]
    peers: tuple[Program, ...]


@dataclass(frozen=True)
class Record:
    """One measurement, and the bare server's rate just before it, or 0."""

    round: int
    server: str
    what: str
    connections: int
    load: Load
    bare_rate: float


@dataclass
class Results:
    """Everything that was measured, and why the rest was not."""

    records: list[Record] = field(default_factory=list)
    open_loop: list[dict[str, Any]] = field(default_factory=list)
    tight: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class Benchmark:
    """One run: where things are, what was found so far. `say` is told what is being measured."""

    def __init__(self, plan: Plan, bundle: Path, folder: Path, say: Callable[[str], None]) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.results = Results()
        self.round = 0
        self.env = {
            "PYTHONPATH": str(ROOT),  # of processes that a server starts elsewhere
            "BENCH_ENCODER": str(bundle / "encoder.onnx"),
            "VAE_MODELS_DIR": str(bundle.parents[1]),
            "VAE_DEFAULT_MODEL": f"{bundle.parent.name}@{bundle.name}",
            "VAE_PROVIDER": "cpu",
            "VAE_LOG_LEVEL": "error",
        }
        session = ort.InferenceSession(self.env["BENCH_ENCODER"], providers=["CPUExecutionProvider"])
        self.mu = session.run(["mu"], {"image": decoded(traffic.pictures(1)[0])[None]})[0][0]
        self.pythons: dict[str | None, str] = {}

    def prepare(self) -> None:
        """Make the environments, and size the bare server's answer as the service's is."""
        for name in ("limit", *(peer.environment for peer in self.plan.peers)):
            if name and name not in self.pythons:
                try:
                    self.pythons[name] = venvs.python(name, self.folder)
                except Unavailable as error:
                    names = [peer.name for peer in self.plan.peers if peer.environment == name] or ["tight loop"]
                    self.results.missing |= dict.fromkeys(names, str(error))

    def visits(self) -> list[Callable[[], None]]:
        """What a round consists of, in order."""
        return [self.limit, self.service, *(partial(self.visit, peer, self.peer) for peer in self.plan.peers)]

    def run(self, advance: Callable[[], None]) -> None:
        """All rounds. `advance` is called after each visit."""
        with contextlib.ExitStack() as stack:
            self.ours = stack.enter_context(servers.running(SERVICE, self.python(SERVICE), self.env))
            servers.check(self.ours, self.mu)
            self.env["BENCH_ANSWER_BYTES"] = str(len(self.ours.answer))
            self.bare = stack.enter_context(servers.running(BARE, self.python(BARE), self.env))
            for server in (self.ours, self.bare):
                closed(server, ENCODE, 16, 1)
            for number in range(1, self.plan.rounds + 1):
                self.round = number
                for visit in self.visits():
                    visit()
                    advance()

    def visit(self, program: Program, measure: Callable[[Server], None]) -> None:
        """Start a program, check its answer, warm it up, measure it. Keep the reason of a failure; do not try again."""
        name = program.name
        if name in self.results.missing:
            return
        self.say(f"{name}: starting")
        try:
            with servers.running(program, self.python(program), self.env) as server:
                if program is not TRIVIAL:
                    servers.check(server, self.mu)
                closed(server, program.request, 16, 1)  # for batchers that adapt to the load
                measure(server)
        except (Unfit, RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.results.missing[name] = str(error) or type(error).__name__

    def limit(self) -> None:
        """The bare server itself, and the responder that shows what the load generators can do."""
        self.singles(self.bare)
        self.open(self.bare)
        self.visit(TRIVIAL, self.trivial)

    def trivial(self, server: Server) -> None:
        """Both load generators against a server that does next to nothing."""
        self.singles(server)
        self.open(server, rate=1e6)

    def peer(self, server: Server) -> None:
        """Single digits; then in turns with this service, with the number of connections that suits the peer best."""
        best = self.singles(server)
        self.open(server)
        name, request = server.program.name, server.program.request
        self.turns(name, (self.ours, ENCODE, AT), (server, request, best))

    def service(self) -> None:
        """Every form of single requests, batches, probes under load, and variants."""
        plan, server = self.plan, self.ours
        for what, request in traffic.SINGLE.items():
            main = what == ENCODE_JSON
            for connections in plan.connections if main else plan.form_connections:
                bare = closed(self.bare, ENCODE, connections, 1).rate
                self.single(server, what, request, connections, plan.seconds if main else plan.form_seconds, bare)
        self.open(server)
        self.forms(server)
        self.batches(server)
        self.probes(server)
        self.variant(server, NO_BATCHING)
        self.variant(server, TWO_WORKERS)

    def singles(self, server: Server) -> int:
        """A server's own single digits with every number of connections; the number with the highest rate."""
        rates = {
            connections: self.single(server, ENCODE_JSON, server.program.request, connections, self.plan.seconds)
            for connections in self.plan.connections
        }
        return max(rates, key=lambda connections: rates[connections])

    def single(
        self, server: Server, what: str, request: Request, connections: int, seconds: int, bare: float = 0.0
    ) -> float:
        """One closed loop of single digits; its rate."""
        self.say(f"{server.program.name}: {what}, {connections} connections")
        load = closed(server, request, connections, seconds)
        self.keep(server, what, connections, load, bare)
        return load.rate

    def turns(self, beside: str, *loads: tuple[Server, Request, int]) -> None:
        """Two servers in turns, the other one paused."""
        for _ in range(PAIRS):
            for (server, request, connections), (other, *_) in zip(loads, reversed(loads), strict=True):
                self.say(f"{server.program.name}: {connections} connections, {TURNS}")
                with other.paused():
                    load = closed(server, request, connections, TURN_SECONDS)
                self.keep(server, f"beside {beside}", connections, load)

    def keep(self, server: Server, what: str, connections: int, load: Load, bare: float = 0.0) -> None:
        """Record a measurement."""
        self.results.records.append(Record(self.round, server.program.name, what, connections, load, bare))

    def open(self, server: Server, rate: float | None = None) -> None:
        """One open loop, at half of what this server has just reached at its best, or at `rate`."""
        name, request = server.program.name, server.program.request
        if rate is None:
            mine = [r for r in self.results.records if r.server == name and r.what == ENCODE_JSON]
            rate = max(r.load.rate for r in mine if r.round == self.round) / 2
        self.say(f"{name}: open loop, {rate:,.0f} requests/s")
        command = f"harness.openloop {server.port} {rate} {self.plan.seconds}"
        measured = self.program(None, command, request.head(server.port) + request.body)
        self.results.open_loop.append({"round": self.round, "server": name, **measured})

    def forms(self, server: Server) -> None:
        """The bare server, raw requests and JSON ones in turns."""
        for verb in ("encode", "reconstruct"):
            for _ in range(PAIRS):
                bare = closed(self.bare, ENCODE, AT, TURN_SECONDS).rate
                for sent in ("JSON", "PNG", "npy"):
                    what = f"/{verb} {sent} to JSON"
                    self.say(f"{what}, {TURNS}")
                    load = closed(server, traffic.SINGLE[what], AT, TURN_SECONDS)
                    self.keep(server, f"{what}, {TURNS}", AT, load, bare)

    def batches(self, server: Server) -> None:
        """Requests of many digits, next to the loop that does the same work without a server."""
        self.say("tight loop")
        if "limit" in self.pythons:
            command = f"bench.serving.tight {BATCH} {self.plan.seconds}"
            bodies = {kind: base64.b64encode(traffic.batch(kind, BATCH).body).decode() for kind in BATCHES}
            self.results.tight.append(self.program("limit", command, json.dumps(bodies).encode()))
        for kind in BATCHES:
            self.say(f"{kind}, batches of {BATCH}")
            load = closed(server, traffic.batch(kind, BATCH), BATCH_CONNECTIONS, self.plan.seconds)
            self.keep(server, kind, BATCH_CONNECTIONS, load)

    def probes(self, server: Server) -> None:
        """GET /readyz every 10 ms, on a connection of its own, while large batches are worked on."""
        for kind in BATCHES:
            self.say(f"GET /readyz while {kind} runs in batches of {LARGE_BATCH}")
            taken: list[float] = []
            meanwhile = partial(_probe, server.port, self.plan.seconds, taken)
            load = closed(server, traffic.batch(kind, LARGE_BATCH), 2, self.plan.seconds + 1, meanwhile)
            taken.sort()
            self.results.probes.append(
                {"round": self.round, "kind": kind, "images_rate": load.images_rate, "failed": load.failed}
                | {"p50": taken[len(taken) // 2], "p99": taken[len(taken) * 99 // 100], "worst": taken[-1]}
            )

    def variant(self, server: Server, variant: Program) -> None:
        """The service and a variant of it in turns."""
        names = [name for name in variant.env if name != "VAE_PORT"]
        if unknown := [name for name in names if name.removeprefix("VAE_").lower() not in Settings.model_fields]:
            self.results.missing[variant.name] = f"This service has no setting {unknown[0]}."
            return
        load = PAIR_LOADS[variant.name]
        self.visit(variant, lambda other: self.turns(variant.name, (server, *load), (other, *load)))

    def python(self, program: Program) -> str:
        """The interpreter that a program runs on."""
        return self.pythons.get(program.environment, sys.executable)

    def program(self, environment: str | None, command: str, stdin: bytes) -> dict[str, Any]:
        """Run a module of ours in a process of its own; it answers with a line of JSON."""
        done = subprocess.run(
            [self.pythons.get(environment, sys.executable), "-m", *command.split()],
            cwd=ROOT,
            env=os.environ | self.env,
            input=stdin,
            capture_output=True,
            check=True,
            timeout=120,
        )
        measured: dict[str, Any] = json.loads(done.stdout)
        return measured


def _probe(port: int, seconds: float, taken: list[float]) -> None:
    """Note how long each GET /readyz took, in milliseconds. Raises Unfit when one says anything but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    time.sleep(0.3)  # until the batches have begun
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        response.read()
        taken.append((time.perf_counter() - began) * 1e3)
        if response.status != 200:
            raise Unfit(f"GET /readyz answered {response.status} under load.")
        time.sleep(0.01)
    connection.close()
