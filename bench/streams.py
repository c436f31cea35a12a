"""A stream against batches of 256 of the same digits, and what a single digit waits beside either.

    python -m bench.streams

Everything is measured in turns against one server, and compared as ratios within one turn: the machine may be shared.
"By processor time" is the same ratio of the server's processor time for each image, which others on the machine disturb
least. Latency is that of one digit after the other on one connection, beside a load from another process.
"""

from __future__ import annotations

import base64
import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from bench.machine import machine
from harness.digits import digits, encoded
from harness.servers import Server, running
from harness.streams import FORM, FORM_END, Stream, part

BATCH: Final = 256
IMAGES: Final = 160 * BATCH
ROUNDS: Final = 5
ASKED: Final = 1000  # single digits, for a latency
FILES: Final = [encoded(digit) for digit in islice(cycle(digits()), BATCH)]
TEXTS: Final = [base64.b64encode(file).decode() for file in FILES]

LINES: Final = b"".join(json.dumps({"image": text}).encode() + b"\n" for text in TEXTS)
PARTS: Final = b"".join(part(file, "digit.png") for file in FILES)
JSON: Final = json.dumps({"images": TEXTS}).encode()


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log") as server:
        print(machine())
        print("\n| images/s | a stream | batches, 1 conn. | batches, 4 conn. | of the better | by processor time |")
        print("|---|---|---|---|---|---|")
        for path in ("/encode", "/reconstruct"):
            row(server, f"{path} NDJSON", path, [LINES] * (IMAGES // BATCH), {}, JSON, "application/json")
        parts = [PARTS] * (IMAGES // BATCH) + [FORM_END]
        row(server, "/encode multipart", "/encode", parts, FORM, PARTS + FORM_END, FORM["Content-Type"])
        print("\n| one digit, ms | p50 | p99 | slowest |\n|---|---|---|---|")
        for name, load in LOADS.items():
            with loaded(server, load):
                times = sorted(latencies(server.port))
            quantiles = statistics.quantiles(times, n=100)
            print(f"| {name} | {quantiles[49]:.2f} | {quantiles[98]:.2f} | {times[-1]:.2f} |")


def row(
    server: Server, name: str, path: str, pieces: Sequence[bytes], headers: Mapping[str, str], body: bytes, kind: str
) -> None:
    """Measure a stream of `pieces`, and batches of `body`, in turns; print the medians of rates and of their ratio."""
    rounds = []
    for _ in range(ROUNDS):
        streamed = rate(server, lambda: stream(server.port, path, pieces, headers))
        one = rate(server, lambda: batches(server.port, path, body, kind, 1))
        four = rate(server, lambda: batches(server.port, path, body, kind, 4))
        best = max(one, four)
        rounds.append((streamed[0], one[0], four[0], streamed[0] / best[0], best[1] / streamed[1]))
    *rates, of_it, of_processor = map(statistics.median, zip(*rounds, strict=True))
    text = " | ".join(f"{each:,.0f}" for each in rates)
    print(f"| {name} | {text} | {of_it:.2f} | {of_processor:.2f} |")


def rate(server: Server, work: Callable[[], None]) -> tuple[float, float]:
    """Images a second, and the seconds of the server's processor time."""
    before, began = server.cpu_seconds(), time.perf_counter()
    work()
    return IMAGES / (time.perf_counter() - began), server.cpu_seconds() - before


def stream(port: int, path: str, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
    """Send one stream, and read its answer meanwhile."""
    with Stream(port, path, headers) as connection:
        sending = connection.send_all(pieces)
        lines = sum(piece.count(b"\n") for piece in connection.pieces())
        sending.join()
    if lines != IMAGES:
        raise RuntimeError(f"{lines} lines for {IMAGES} images")


def batches(port: int, path: str, body: bytes, kind: str, connections: int) -> None:
    """Send batches, so many at a time."""

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(IMAGES // BATCH // connections):
            connection.request("POST", path, body, {"Content-Type": kind})
            with connection.getresponse() as answer:
                answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}")
        connection.close()

    asking = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()


def streams_forever(port: int) -> None:
    """One stream after the other."""
    while True:
        stream(port, "/encode", [LINES] * (IMAGES // BATCH), {})


def batches_forever(port: int) -> None:
    """Batches on four connections."""
    while True:
        batches(port, "/encode", JSON, "application/json", 4)


LOADS: Final[dict[str, Callable[[int], None] | None]] = {
    "alone": None,
    "beside a stream": streams_forever,
    "beside batches of 256 on 4 connections": batches_forever,
}


@contextmanager
def loaded(server: Server, load: Callable[[int], None] | None) -> Iterator[None]:
    """Run a load in a process of its own until the block ends."""
    if load is None:
        yield
        return
    process = multiprocessing.Process(target=load, args=(server.port,))
    process.start()
    time.sleep(1)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def latencies(port: int) -> list[float]:
    """Milliseconds of one digit after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = []
    for text in islice(cycle(TEXTS), ASKED):
        body = json.dumps({"images": [text]}).encode()
        began = time.perf_counter()
        connection.request("POST", "/encode", body, {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            answer.read()
        found.append((time.perf_counter() - began) * 1e3)
    connection.close()
    return found


if __name__ == "__main__":
    main()
