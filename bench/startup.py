"""How soon `python -m service` is ready after its start, and how much memory it then holds.

    python -m bench.startup

Ready means that GET /readyz answers 200: models verified, tested and warm. Memory is the resident set (VmRSS), once
ready and again after 200 requests. Linux only, for it reads /proc.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from rich.progress import track

from bench.machine import machine

RUNS = 9
ROOT = Path(__file__).parents[1]
DIGIT = (ROOT / "tests" / "data" / "digit.png").read_bytes()


def main() -> None:
    """Measure and print."""
    seconds, ready, busy = zip(
        *(measure() for _ in track(range(RUNS), "starting servers", transient=True)), strict=True
    )
    print(f"### Start-up of the service, {RUNS} runs\n")
    print(f"{machine()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("fastapi", "onnxruntime", "numpy")), end="\n\n")
    print("| | median | worst |\n|---|---|---|")
    print(f"| ready after | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s |")
    print(f"| resident when ready | {statistics.median(ready):.0f} MB | {max(ready):.0f} MB |")
    print(f"| resident after 200 requests | {statistics.median(busy):.0f} MB | {max(busy):.0f} MB |")


def measure() -> tuple[float, float, float]:
    """Seconds from the start of one server until it is ready, and its resident megabytes then and after some work."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=os.environ | {"VAE_PORT": str(port), "VAE_LOG_LEVEL": "error"},
    )
    try:
        while request(port, "GET", "/readyz") != 200:
            if server.poll() is not None:
                sys.exit("The server ended before it was ready.")
            time.sleep(0.002)
        seconds = time.perf_counter() - started
        ready = resident(server.pid)
        for _ in range(200):
            assert request(port, "POST", "/reconstruct", DIGIT) == 200
        if "torch" in Path(f"/proc/{server.pid}/maps").read_text():
            sys.exit("torch is loaded in the serving process.")
        return seconds, ready, resident(server.pid)
    finally:
        server.terminate()
        server.wait()


def request(port: int, method: str, path: str, body: bytes | None = None) -> int | None:
    """The status of one request; None where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        connection.request(method, path, body, {"content-type": "image/png"} if body else {})
        return connection.getresponse().status
    return None


def resident(pid: int) -> float:
    """Resident memory of a process, in megabytes (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kibibytes * 1024 / 1e6


if __name__ == "__main__":
    main()
