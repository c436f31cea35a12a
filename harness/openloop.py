"""Open loop: requests start at times of their own, however late the answers, and latency counts from those times.

    python -m harness.openloop PORT RATE SECONDS [CONNECTIONS] < request

`request` is the whole request, head and body. Times are those of independent clients (exponential gaps, a fixed seed).
A request takes an idle one of 64 (or so many) connections; where there is none it waits, and its latency includes that.
Raw sockets and epoll in one process: its own limit is what it reaches against trivial.py at a rate nobody can answer.
Prints one line of JSON, times in milliseconds; `late` is by how much requests left after their time.
"""

from __future__ import annotations

import ctypes
import json
import random
import re
import select
import socket
import sys
import time
from collections import deque
from typing import Final

CONNECTIONS: Final = 64
PATIENCE: Final = 5.0  # seconds that the last answers may take
PR_SET_TIMERSLACK: Final = 29

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Connection:
    """One keep-alive connection: idle, or waiting for the answer to a request that was meant for `intended`."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.intended = 0.0
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


def run(port: int, request: bytes, rate: float, seconds: float, count: int = CONNECTIONS) -> dict[str, float]:
    """Send for so many seconds on `count` connections, wait for the last answers, and say how long they took.

    `p50` and `p99` are of the good answers, `refused50` and `refused99` of those with status 503.
    """
    draw = random.Random(1)
    connections = {connection.socket.fileno(): connection for connection in (Connection(port) for _ in range(count))}
    epoll = select.epoll()
    for number in connections:
        epoll.register(number, select.EPOLLIN)
    idle = deque(connections.values())
    clock = time.perf_counter
    latencies: list[float] = []
    late: list[float] = []
    refused: list[float] = []
    failed = 0
    began = clock()
    end = began + seconds
    following = began + draw.expovariate(rate)
    while True:
        now = clock()
        while following <= now < end and following < end and idle:
            connection = idle.popleft()
            connection.intended = following
            late.append(now - following)
            connection.socket.sendall(request)
            following += draw.expovariate(rate)
            now = clock()
        over = now >= end or following >= end
        if over and (len(idle) == len(connections) or now > end + PATIENCE):
            break
        # epoll's own timeout is in whole milliseconds; select's, on the one descriptor that stands for all, is not.
        wait = 0.1 if over or not idle else max(0.0, following - now)
        if not select.select([epoll], [], [], wait)[0]:
            continue
        for number, _ in epoll.poll(0):
            connection = connections[number]
            try:
                if not connection.complete():
                    continue
                if connection.received[9:10] == b"2":
                    latencies.append(clock() - connection.intended)
                else:
                    failed += 1
                    if connection.received[9:12] == b"503":
                        refused.append(clock() - connection.intended)
                connection.received = b""
                idle.append(connection)
            except ConnectionError:
                failed += 1
                epoll.unregister(number)
                del connections[number]
                if not connections:
                    break
    failed += len(connections) - len(idle)  # never answered
    counts = {"wanted": rate, "rate": len(latencies) / seconds, "failed": failed, "refused": len(refused)}
    return counts | {
        f"{name}{percent}": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0
        for name, ordered in (("p", sorted(latencies)), ("late", sorted(late)), ("refused", sorted(refused)))
        for percent in (50, 99)
    }


def main() -> None:
    """Read the request, send it at the rate asked for, print what came of it."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # wake at the time asked for, not up to 50 us after it
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    count = int(sys.argv[4]) if len(sys.argv) > 4 else CONNECTIONS
    print(json.dumps(run(port, sys.stdin.buffer.read(), rate, seconds, count)))


if __name__ == "__main__":
    main()
