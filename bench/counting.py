"""What counting and logging one request costs: prometheus-client, alone and for several processes, and what we do.

    python -m bench.counting

A request adds to two counters and five histograms. "In a loop" is the fastest of many repeats. "Busy" is the median of
calls between two runs of the encoder, which empty the caches. prometheus-client's children are looked up beforehand,
which is its best case.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from bench.machine import machine
from harness.paths import MODELS
from harness.records import record
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.telemetry.cells import shared_directory
from service.telemetry.families import DURATION_BOUNDS, STAGE_BOUNDS
from service.telemetry.logs import Format, LogWriter, RequestLog
from service.telemetry.metrics import STAGES, Metrics

TIMES: Final = (70e-6, 12e-6, 2e-6, 34e-6, 13e-6)  # in all, decode, queue, compute, encode


def main() -> None:
    """Measure and print; with an argument, only prometheus-client's row, in this process."""
    if sys.argv[1:]:
        row(sys.argv[1], prometheus_client())
        return
    print(f"{machine()}\n\n| | in a loop, us | busy, us |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, extra in (
            ("prometheus-client", {}),
            ("prometheus-client, multiprocess", {"PROMETHEUS_MULTIPROC_DIR": folder}),
        ):
            subprocess.run([sys.executable, "-m", "bench.counting", name], env=os.environ | extra, check=True)
    row("`Metrics`", ours(Metrics()))
    with shared_directory() as folder_of_workers:
        metrics = Metrics(folder_of_workers)
        row("`Metrics`, shared by workers", ours(metrics))
        row("`Metrics.batch`", lambda: metrics.batch("mnist-mlp@1", "encode", 1))
        row("`Metrics.request`", lambda: metrics.request("/livez", "GET", 200, 1e-3))
        row("`Metrics.exposition`, two workers", metrics_of_two(metrics, folder_of_workers), times=20)
    for form in ("text", "json"):
        row(f"`RequestLog`, {form}, to a pipe", log(form))


def row(name: str, work: Callable[[], object], times: int = 2000) -> None:
    """Print one row."""
    alone = min(timeit.repeat(work, number=times, repeat=30)) / times * 1e6
    print(f"| {name} | {alone:.2f} | {busy(work, times) - busy(lambda: None, times):.2f} |", flush=True)


def busy(work: Callable[[], object], times: int) -> float:
    """Microseconds of one call between two runs of the encoder: the median of many."""
    engine = Engine(read_bundle(MODELS / "mnist-mlp" / "1"), provider="cpu", threads=1)
    image = np.zeros((1, *engine.contract.image_shape), np.uint8)
    taken = []
    for _ in range(times):
        engine.encode(image)
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def prometheus_client() -> Callable[[], None]:
    """The same with prometheus-client's own counters and histograms."""
    registry = CollectorRegistry()
    requests = Counter("requests", "-", ["route", "method", "status"], registry=registry).labels("/encode", "POST", 200)
    images = Counter("images", "-", ["model", "verb"], registry=registry).labels("mnist-mlp@1", "encode")
    durations = Histogram("durations", "-", ["route"], buckets=DURATION_BOUNDS, registry=registry).labels("/encode")
    stage = Histogram("stages", "-", ["route", "stage"], buckets=STAGE_BOUNDS, registry=registry)
    histograms = (durations, *(stage.labels("/encode", name) for name in STAGES))

    def count() -> None:
        requests.inc()
        images.inc()
        for histogram, seconds in zip(histograms, TIMES, strict=True):
            histogram.observe(seconds)

    return count


def ours(metrics: Metrics) -> Callable[[], None]:
    """One call."""
    return lambda: metrics.answered("/encode", "mnist-mlp@1", 1, *TIMES)


def metrics_of_two(metrics: Metrics, folder: Path) -> Callable[[], object]:
    """A scrape, of two workers that have seen all verbs and some errors."""
    for worker in (metrics, Metrics(folder)):
        for verb in ("encode", "reconstruct", "sample", "decode", "interpolate", "traverse"):
            worker.answered(f"/{verb}", "mnist-mlp@1", 1, *TIMES)
            worker.batch("mnist-mlp@1", verb, 1)
            for status in (404, 422, 503):
                worker.request(f"/{verb}", "POST", status, TIMES[0])
        for route in ("/livez", "/readyz", "/metrics", "/models", "/models/{name}"):
            worker.request(route, "GET", 200, TIMES[0])
    return metrics.exposition


def log(form: Format) -> Callable[[], None]:
    """A line into a pipe that another process reads."""
    reading, writing = os.pipe()
    subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
    log = RequestLog(LogWriter(FileIO(writing, "wb")), form)
    request = record(images=1, request_id="5f" * 16, model="mnist-mlp@1", bytes_in=512, bytes_out=834)
    return lambda: log.write(request)


if __name__ == "__main__":
    main()
