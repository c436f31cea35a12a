"""Open loop: requests start at times of their own, however late the answers.

    python -m harness.openloop PORT RATE SECONDS [CONNECTIONS] < request

`request` is the whole request, head and body. Times are those of independent clients (exponential gaps, a fixed seed).
A request takes an idle one of 64 (or so many) connections; where there is none it waits.

Latency counts from the time that a request was meant for, as its client would count. So it has three parts: how late
the request left, because this process was busy or had no processor; because no connection was idle; and how long the
server took. Each is told apart, for the first says nothing of the server.

One process with raw sockets and epoll: its own limit is what it reaches against a server that does next to nothing.
Nothing is computed or collected while it runs that can be before or after. Prints one line of JSON, times in
milliseconds:

    p50, p99              of the good answers, from the time they were meant for
    sent50, sent99        the same from the time they were sent
    late50, late99        how long after its time each request was sent
    starved               the part of the time in which this process could have run and had no processor
    refused50, refused99  of answers with status 503, from the time they were meant for
    rate                  good answers a second
    failed                requests without a good answer; of them `refused` got 503, `expired` 504
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness.paths import ROOT

CONNECTIONS: Final = 64
MOST_RATE: Final = 200_000.0  # more than this process can send
PATIENCE: Final = 30.0  # an upper limit to the seconds that the last answers take
PR_SET_TIMERSLACK: Final = 29

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Connection:
    """One keep-alive connection: idle, or waiting for the answer to a request."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.intended = self.sent = 0.0
        self.received = b""

    def complete(self) -> bool:
        """Read what has arrived; whether that completes the answer. Raises ConnectionError when the server hung up."""
        piece = self.socket.recv(262144)
        if not piece:
            raise ConnectionError
        self.received = self.received + piece if self.received else piece
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        if length := _LENGTH.search(self.received, 0, end + 2):
            return len(self.received) >= end + 4 + int(length[1])
        return self.received.endswith(b"0\r\n\r\n")  # chunked


def arrivals(rate: float, seconds: float) -> list[float]:
    """When requests of independent clients come, in seconds from the start."""
    draw = random.Random(1)
    gaps = iter(lambda: draw.expovariate(rate), None)
    return list(itertools.takewhile(lambda at: at < seconds, itertools.accumulate(gaps)))


def run(port: int, request: bytes, rate: float, seconds: float, count: int = CONNECTIONS) -> dict[str, float]:
    """Send for so many seconds on `count` connections, wait for the last answers, and say how long they took."""
    connections = {connection.socket.fileno(): connection for connection in (Connection(port) for _ in range(count))}
    epoll = select.epoll()
    for number in connections:
        epoll.register(number, select.EPOLLIN)
    idle = deque(connections.values())
    clock = time.perf_counter
    # More than anybody answers is asked for by rates that are only limits; those need no list as long.
    times = deque(arrivals(min(rate, MOST_RATE), seconds))
    answered: list[tuple[bytes, float, float]] = []  # status, from the time meant, from the time sent
    late: list[float] = []
    starved = _waited_for_processor()
    began = clock()
    end = began + seconds
    while True:
        now = clock()
        while times and idle and began + times[0] <= now < end:
            connection = idle.popleft()
            connection.intended = began + times.popleft()
            connection.sent = now
            connection.socket.sendall(request)
            late.append(now - connection.intended)
            now = clock()
        over = now >= end or not times
        if over and (len(idle) == len(connections) or now > end + PATIENCE):
            break
        # epoll's own timeout is in whole milliseconds; select's, on the one descriptor that stands for all, is not.
        wait = 0.1 if over or not idle else max(0.0, began + times[0] - now)
        if not select.select([epoll], [], [], wait)[0]:
            continue
        for number, _ in epoll.poll(0):
            connection = connections[number]
            try:
                if not connection.complete():
                    continue
                now = clock()
                answered.append((connection.received[9:12], now - connection.intended, now - connection.sent))
                connection.received = b""
                idle.append(connection)
            except ConnectionError:
                epoll.unregister(number)
                del connections[number]
        if not connections:
            break
    elapsed = clock() - began
    starved = _waited_for_processor() - starved
    good = [(meant, sent) for status, meant, sent in answered if status[:1] == b"2"]
    statuses = Counter(status for status, *_ in answered)
    return {
        "wanted": rate,
        "rate": len(good) / seconds,
        "failed": len(late) - len(good),
        "refused": statuses[b"503"],
        "expired": statuses[b"504"],
        "starved": starved / elapsed,
        **_percentiles("p", [meant for meant, _ in good]),
        **_percentiles("sent", [sent for _, sent in good]),
        **_percentiles("late", late),
        **_percentiles("refused", [meant for status, meant, _ in answered if status == b"503"]),
    }


def run_apart(
    port: int,
    request: bytes,
    rate: float,
    seconds: float,
    count: int = CONNECTIONS,
    first: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """The same in a process of its own, which calls `first` before it begins."""
    command = [sys.executable, "-m", "harness.openloop", *map(str, (port, rate, seconds, count))]
    done = subprocess.run(command, cwd=ROOT, input=request, stdout=subprocess.PIPE, check=True, preexec_fn=first)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        f"{name}{percent}": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0
        for percent in (50, 99)
    }


def _waited_for_processor() -> float:
    """Seconds that this process has been ready to run and has not been run."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def main() -> None:
    """Read the request, send it at the rate asked for, print what came of it."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # wake at the time asked for, not up to 50 us after it
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    count = int(sys.argv[4]) if len(sys.argv) > 4 else CONNECTIONS
    request = sys.stdin.buffer.read()
    gc.disable()  # what is kept here are numbers, which make no garbage that only the collector finds
    print(json.dumps(run(port, request, rate, seconds, count)))


if __name__ == "__main__":
    main()
