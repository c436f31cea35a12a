"""The service on a CPU and on a GPU, over HTTP: wrk keeps connections busy with requests of 1 to 1,024 digits."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from bench.serving.closed import closed
from bench.serving.programs import Program
from bench.serving.servers import Server
from bench.serving.traffic import JSON, NPY, Request, json_body, npy_body
from harness.servers import running

COUNTS: Final = (1, 16, 256, 1024)
CONNECTIONS: Final = 32


def requests() -> dict[str, Request]:
    """What is sent."""
    found = {}
    for count in COUNTS:
        found[f"/encode JSON, {count}"] = Request("/encode", json_body(count), JSON, JSON, count)
        found[f"/encode npy, {count}"] = Request("/encode", npy_body(count), NPY, NPY, count)
        found[f"/reconstruct npy, {count}"] = Request("/reconstruct", npy_body(count), NPY, NPY, count)
    return found


def rows(models: Path, model: str, provider: str, workers: int, seconds: int, wanted: tuple[str, ...]) -> Iterator[str]:
    """A row of the table for each of the `wanted` requests."""
    settings = {"models_dir": models, "models": model, "default_model": model, "provider": provider, "workers": workers}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "log", queue=65_536, **settings) as found:
        server = Server(PROGRAM, found.port, psutil.Process(found.process.pid), b"")
        for name, request in requests().items():
            if name in wanted:
                seen: list[str] = []
                load = closed(server, request, CONNECTIONS, seconds, partial(_look, seconds, seen))
                alone = closed(server, request, 1, 1)
                yield (
                    f"| {model} | {provider} | {workers} | {name} | {load.images_rate:,.0f} | {alone.p50:.2f} | "
                    f"{load.p50:.1f} | {load.p99:.1f} | {load.server_cores:.1f} | {seen[0]} | "
                    f"{load.failed + alone.failed} |"
                )


HEAD: Final = (
    "| model | provider | workers | request, digits | images/s | p50 ms, alone | p50 ms, 32 | p99 ms, 32 | cores | "
    "GPU use, memory | failed |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
PROGRAM: Final = Program("this service", "", Request("/encode", b""))


def _look(seconds: int, seen: list[str]) -> None:
    """What nvidia-smi says in the middle of a load: the share of time in which a kernel ran, and memory."""
    time.sleep(seconds * 0.6)
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"]
    seen.append(subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip())
