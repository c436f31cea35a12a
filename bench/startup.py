"""How soon `python -m service` is ready after its start, and how much memory it then holds.

    python -m bench.startup

Ready means that GET /readyz answers 200: models verified, tested and warm. Memory is the resident set (VmRSS), once
ready and again after 200 requests. Linux only, for it reads /proc.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from rich.progress import track

from bench.machine import machine
from harness.paths import DIGIT
from harness.servers import running, status

RUNS = 9


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
    picture = DIGIT.read_bytes()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vae-bench-") as folder, running(Path(folder) / "log", models="") as server:
        seconds = time.perf_counter() - started
        ready = server.memory() / 1e6
        for _ in range(200):
            assert status(server.port, "/reconstruct", "POST", picture) == 200
        if "torch" in Path(f"/proc/{server.process.pid}/maps").read_text():
            sys.exit("torch is loaded in the serving process.")
        return seconds, ready, server.memory() / 1e6


if __name__ == "__main__":
    main()
