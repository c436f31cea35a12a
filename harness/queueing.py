"""Discrete events: requests, balancers and replicas that answer in batches; and one worker beside its load generator.

A replica works in turns, as the service does: it takes all requests that wait for it, up to `most`, and is busy with
them for `service(count)` seconds; what arrives meanwhile waits for the next turn. With `most=1` and service times that
are exponential or constant these are the queues of theory, M/M/1, M/D/1 and M/M/c, which tests compare it with.
"""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Service = Callable[[int], float]  # seconds of a turn with so many requests
Policy = Literal["round robin", "random", "two choices", "least connections", "one queue"]


@dataclass(frozen=True)
class Turns:
    """What a worker needs for a turn: `fixed` seconds, and `each` for a request."""

    fixed: float
    each: float

    def __call__(self, count: int) -> float:
        """Seconds of a turn with so many requests."""
        return self.fixed + self.each * count

    def capacity(self, most: int) -> float:
        """Requests a second when there are always enough for a full turn."""
        return most / self(most)


@dataclass(frozen=True)
class MeasuredTurns:
    """The same from measurements: `seconds` of turns with `counts` requests, in order; straight lines between them."""

    counts: Sequence[float]
    seconds: Sequence[float]

    def __call__(self, count: int) -> float:
        """Seconds of a turn with so many requests; before the first and after the last, the line goes on."""
        place = min(max(bisect.bisect_left(self.counts, count), 1), len(self.counts) - 1)
        low, high = self.counts[place - 1], self.counts[place]
        slope = (self.seconds[place] - self.seconds[place - 1]) / (high - low)
        return self.seconds[place] + slope * (count - high)

    def varying(self, spread: float, draw: np.random.Generator) -> Service:
        """The same with log-normal differences: `spread` is the standard deviation of the logarithm."""
        factors = (factor for _ in iter(int, 1) for factor in draw.lognormal(-(spread**2) / 2, spread, 4096).tolist())
        return lambda count: self(count) * next(factors)


def poisson(rate: float, seconds: float, draw: np.random.Generator) -> Floats:
    """Arrivals of independent clients within so many seconds, sorted."""
    return np.sort(draw.uniform(0, seconds, draw.poisson(rate * seconds)))


def bursts(rate: float, seconds: float, draw: np.random.Generator, *, size: float = 8.0, width: float = 1e-3) -> Floats:
    """Arrivals of clients that send several at once: groups, of `size` on average (geometric), within `width` seconds.

    The groups are Poisson, `rate` counts requests (a Neyman-Scott process). Sorted, a few of them after `seconds`.
    """
    starts = poisson(rate / size, seconds, draw)
    groups = np.repeat(starts, draw.geometric(1 / size, len(starts)))
    return np.sort(groups + draw.uniform(0, width, len(groups)))


def simulate(
    arrivals: Floats,
    service: Service,
    *,
    replicas: int,
    policy: Policy,
    most: int = 1,
    balancers: int = 1,
    opens: Sequence[float] = (),
    seed: int = 0,
) -> Floats:
    """Seconds from each request's arrival to its answer, in the order of arrivals.

    `balancers`: requests come to one of so many at random, and each knows only of the requests that it has sent itself.
    `opens`: when each replica is ready, in order; at once where none is said. Replicas answer for ever: nothing is
    refused. With "one queue" requests wait at the balancer, first come first served, until a replica is idle.
    """
    cluster = _Cluster(arrivals, service, replicas, policy, most, balancers, list(opens), np.random.default_rng(seed))
    return cluster.run()


class _Cluster:
    def __init__(
        self,
        arrivals: Floats,
        service: Service,
        replicas: int,
        policy: Policy,
        most: int,
        balancers: int,
        opens: list[float],
        draw: np.random.Generator,
    ) -> None:
        self.arrivals, self.service, self.policy, self.most = arrivals, service, policy, most
        self.opens = deque(opens or [0.0] * replicas)
        self.ready = 0  # replicas 0, 1, ... up to this one take requests
        self.random = iter(_uniform(draw))
        self.turn: list[int] = draw.integers(
            replicas, size=balancers
        ).tolist()  # of round robin: balancers start anywhere
        self.counts = [[0] * replicas for _ in range(balancers)]
        # Of least connections: (count, number by which ties are broken, replica); outdated entries are passed over.
        self.order: list[list[tuple[int, int, int]]] = [[] for _ in range(balancers)]
        self.stamp = 0
        self.waiting: list[deque[int]] = [deque() for _ in range(replicas)]
        self.shared: deque[int] = deque()
        self.idle: list[int] = []  # replicas that do nothing, for one queue
        self.busy: list[list[int]] = [[] for _ in range(replicas)]
        self.ends: list[tuple[float, int]] = []
        self.balancer = [0] * len(arrivals)
        self.finished = np.zeros(len(arrivals))

    def run(self) -> Floats:
        for request, now in enumerate(self.arrivals.tolist()):
            while self.ends and self.ends[0][0] <= now:
                self.end()
            while self.opens and self.opens[0] <= now:
                self.opens.popleft()
                self.open()
            if self.policy == "one queue":
                self.shared.append(request)
                if self.idle:
                    self.begin(self.idle.pop(), now)
                continue
            replica = self.choose(request)
            self.waiting[replica].append(request)
            if not self.busy[replica]:
                self.begin(replica, now)
        while self.ends:
            self.end()
        return self.finished - self.arrivals

    def open(self) -> None:
        """One replica more."""
        if self.policy == "one queue":
            self.idle.append(self.ready)
        for balancer, order in enumerate(self.order):
            # Balancers do not agree where they begin: ties are broken at random among replicas that open.
            heapq.heappush(order, (self.counts[balancer][self.ready], -int(next(self.random) * 2**30), self.ready))
        self.ready += 1

    def choose(self, request: int) -> int:
        balancer = int(next(self.random) * len(self.turn)) if len(self.turn) > 1 else 0
        self.balancer[request] = balancer
        counts = self.counts[balancer]
        match self.policy:
            case "round robin":
                replica = self.turn[balancer] = (self.turn[balancer] + 1) % self.ready
            case "random":
                replica = int(next(self.random) * self.ready)
            case "two choices":
                one, other = (int(next(self.random) * self.ready) for _ in range(2))
                replica = one if counts[one] <= counts[other] else other
            case _:
                order = self.order[balancer]
                while order[0][0] != counts[order[0][2]]:
                    heapq.heappop(order)
                replica = order[0][2]
        counts[replica] += 1
        self.ordered(balancer, replica)
        return replica

    def ordered(self, balancer: int, replica: int) -> None:
        """Note a replica's new count."""
        if self.policy == "least connections":
            self.stamp += 1
            heapq.heappush(self.order[balancer], (self.counts[balancer][replica], self.stamp, replica))

    def begin(self, replica: int, now: float) -> None:
        """A turn with what waits, if anything does."""
        queue = self.shared if self.policy == "one queue" else self.waiting[replica]
        taken = [queue.popleft() for _ in range(min(self.most, len(queue)))]
        self.busy[replica] = taken
        if taken:
            heapq.heappush(self.ends, (now + self.service(len(taken)), replica))
        elif self.policy == "one queue":
            self.idle.append(replica)

    def end(self) -> None:
        """The turn that ends first."""
        now, replica = heapq.heappop(self.ends)
        for request in self.busy[replica]:
            self.finished[request] = now
            if self.policy != "one queue":
                balancer = self.balancer[request]
                self.counts[balancer][replica] -= 1
                self.ordered(balancer, replica)
        self.begin(replica, now)


def _uniform(draw: np.random.Generator) -> Iterator[float]:
    while True:
        yield from draw.random(4096).tolist()


@dataclass(frozen=True)
class Generator:
    """What `harness.openloop` needs: seconds to send a request, and to receive an answer."""

    send: float
    receive: float


# The part of a turn's `each` in which answers are written, one after the other: the rest comes before all of them.
WRITING: Final = 1 / 3


def beside_generator(
    arrivals: Floats,
    turns: Service,
    generator: Generator,
    wakes: Iterator[float],
    *,
    most: int,
    connections: int,
) -> Floats:
    """Seconds from when each request was meant to leave to its answer, as `harness.openloop` measures them.

    The generator is one process that sends what is due while a connection is idle, and then receives what has come. The
    worker works in turns. Either sleeps when it has nothing to do; `wakes` are the seconds it takes, each time, to go
    on. The worker reads every request of a turn before it writes the first answer.
    """
    times = deque(arrivals.tolist())
    meant: deque[float] = deque()
    asked: deque[float] = (
        deque()
    )  # when each request that has been sent is at the worker; its intended time is in meant
    answers: deque[tuple[float, float]] = deque()  # when it can be received, when it was meant to leave
    found: list[float] = []
    idle = connections
    client = worker = 0.0  # when each is free
    client_wake, worker_wake = next(wakes), next(wakes)  # of the next time that each sleeps
    while times or asked or answers:
        due = times[0] if times and idle else np.inf
        come = answers[0][0] if answers else np.inf
        event = min(due, come)
        client_next = client if event <= client else event + client_wake
        taken_from = asked[0] if asked else np.inf
        worker_next = worker if taken_from <= worker else taken_from + worker_wake
        if worker_next <= client_next:
            if taken_from > worker:
                worker_wake = next(wakes)
            count = 0
            batch = []
            while asked and asked[0] <= worker_next and count < most:
                asked.popleft()
                batch.append(meant.popleft())
                count += 1
            end = worker_next + turns(count)
            writing = WRITING * (end - worker_next) / count
            for place, intended in enumerate(batch):
                answers.append((end - writing * (count - 1 - place), intended))
            worker = end
            continue
        if event > client:
            client_wake = next(wakes)
        client = client_next
        while times and idle and times[0] <= client:
            meant.append(times.popleft())
            client += generator.send
            asked.append(client)
            idle -= 1
        received = 0
        while answers and answers[0][0] <= client and received < connections:
            client += generator.receive
            found.append(client - answers.popleft()[1])
            idle += 1
            received += 1
    return np.asarray(found)
