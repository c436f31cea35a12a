"""A stream against batches of 256 of the same digits, and what a single digit waits beside either.

    python -m bench.streams

Everything is measured in turns against one server, and compared as ratios within one turn: the machine may be shared.
A load is a process of its own that sends and reads at the same time. Latency is that of one digit after the other on
one connection.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from bench.machine import machine
from harness.digits import digits, encoded
from harness.servers import Server, running

BATCH: Final = 256
IMAGES: Final = 100 * BATCH
ROUNDS: Final = 5
ASKED: Final = 1000  # single digits, for a latency
PATHS: Final = ("/encode", "/reconstruct")
FILES: Final = [encoded(digit) for digit in islice(cycle(digits()), BATCH)]
TEXTS: Final = [base64.b64encode(file).decode() for file in FILES]
BOUNDARY: Final = b"b"

LINES: Final = b"".join(json.dumps({"image": text}).encode() + b"\n" for text in TEXTS)
PARTS: Final = b"".join(
    b'--b\r\nContent-Disposition: form-data; name="images"; filename="digit"\r\n\r\n%b\r\n' % file for file in FILES
)
JSON: Final = json.dumps({"images": TEXTS}).encode()

NDJSON_HEAD: Final = {"Content-Type": "application/x-ndjson"}
FORM_HEAD: Final = {"Content-Type": "multipart/form-data; boundary=b", "Accept": "application/x-ndjson"}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log") as server:
        print(machine())
        print("\n| images/s | a stream | batches, 1 connection | batches, 4 connections | of the better |")
        print("|---|---|---|---|---|")
        for path in PATHS:
            row(server, f"{path} NDJSON", lambda: stream(server.port, path, LINES, b"", NDJSON_HEAD), path, JSON)
        row(
            server,
            "/encode multipart",
            lambda: stream(server.port, "/encode", PARTS, b"--b--\r\n", FORM_HEAD),
            *("/encode", PARTS + b"--b--\r\n", "multipart/form-data; boundary=b"),
        )
        print("\n| one digit, ms | p50 | p99 | slowest |\n|---|---|---|---|")
        for name, load in LOADS.items():
            with loaded(server, load):
                times = sorted(latencies(server.port))
            quantiles = statistics.quantiles(times, n=100)
            print(f"| {name} | {quantiles[49]:.2f} | {quantiles[98]:.2f} | {times[-1]:.2f} |")


def row(
    server: Server, name: str, streamed: Callable[[], None], path: str, body: bytes, kind: str = "application/json"
) -> None:
    """Measure a stream and batches in turns, and print the medians of their rates and of the ratio."""
    rates: dict[str, list[float]] = {"stream": [], "one": [], "four": [], "ratio": []}
    for _ in range(ROUNDS):
        rates["stream"].append(rate(streamed))
        rates["one"].append(rate(lambda: batches(server.port, path, body, kind, 1)))
        rates["four"].append(rate(lambda: batches(server.port, path, body, kind, 4)))
        rates["ratio"].append(rates["stream"][-1] / max(rates["one"][-1], rates["four"][-1]))
    middle = {each: statistics.median(values) for each, values in rates.items()}
    print(
        f"| {name} | {middle['stream']:,.0f} | {middle['one']:,.0f} | {middle['four']:,.0f} | {middle['ratio']:.2f} |"
    )


def rate(work: Callable[[], None]) -> float:
    """Images a second."""
    began = time.perf_counter()
    work()
    return IMAGES / (time.perf_counter() - began)


def stream(port: int, path: str, piece: bytes, last: bytes, head: dict[str, str], images: int = IMAGES) -> None:
    """Send one stream of so many images, a chunk for each `piece` of `BATCH`, and read its answer meanwhile."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest("POST", path)
    for name, value in (head | {"Transfer-Encoding": "chunked"}).items():
        connection.putheader(name, value)
    connection.endheaders()

    def send() -> None:
        for _ in range(images // BATCH):
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.send((b"%x\r\n%b\r\n" % (len(last), last) if last else b"") + b"0\r\n\r\n")

    sending = threading.Thread(target=send)
    sending.start()
    lines = 0
    with connection.getresponse() as answer:
        while data := answer.read1(2**18):
            lines += data.count(b"\n")
    sending.join()
    connection.close()
    if (answer.status, lines) != (200, images):
        raise RuntimeError(f"{answer.status} with {lines} lines for {images} images")


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
        stream(port, "/encode", LINES, b"", NDJSON_HEAD)


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
