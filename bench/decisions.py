"""What the other way would cost, where no other benchmark says it: docs/decisions.md has the table.

    python -m bench.decisions

Times are those of the fastest tenth of many rounds, in this process and without a server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import orjson
import uvloop

from bench.machine import machine
from harness.digits import digits
from harness.paths import MODELS
from service.app import create_app
from service.inference.autoencoder import noise
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.settings import Settings

ROUNDS: Final = 2000
IMPORT: Final = """
import pathlib, time
began = time.perf_counter()
import {0}
seconds = time.perf_counter() - began
print(seconds, pathlib.Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
"""


def main() -> None:
    """Print the rows as a table."""
    print(f"{machine()}\n\n| | |\n|---|---|")
    for name, found in rows().items():
        print(f"| {name} | {found} |")


def rows() -> dict[str, str]:
    """Each row and what was measured."""
    bundle = read_bundle(MODELS / "mnist-mlp" / "2")
    engines = {threads: Engine(bundle, provider="cpu", threads=threads) for threads in (1, 2)}
    image, batch = digits()[:1], np.resize(digits(), (256, 28, 28))
    mu, logvar = engines[1].encode(image)
    answer = {"model": "mnist-mlp@2", "mu": mu.tolist(), "logvar": logvar.tolist()}
    arrays = {"model": "mnist-mlp@2", "mu": mu, "logvar": logvar}
    found = {
        "a run of the encoder, one digit": f"{fastest(lambda: engines[1].encode(image)):.0f} us",
        "the same with two threads of onnxruntime": f"{fastest(lambda: engines[2].encode(image)):.0f} us",
        "256 digits": f"{fastest(lambda: engines[1].encode(batch), 200):.0f} us",
        "the same with two threads": f"{fastest(lambda: engines[2].encode(batch), 200):.0f} us",
        "the way to a thread and back": f"{uvloop.run(hop()):.0f} us",
        "mu and logvar as JSON, orjson": f"{fastest(lambda: dump(arrays)):.1f} us",
        "the same, json": f"{fastest(lambda: json.dumps(answer)):.1f} us",
        "noise for one digit, from its own seed": f"{fastest(lambda: noise((1, 20), 1)):.1f} us",
        "SHA-256 of a bundle's files, both sessions, the self-test": f"{fastest(open_once, 10) / 1000:.0f} ms",
    }
    found |= collection()
    for name in ("onnxruntime", "torch"):
        seconds, megabytes = min(imported(name) for _ in range(3))
        found[f"import {name}"] = f"{seconds:.2f} s, {megabytes:.0f} MB"
    return found


def fastest(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The first decile of a call's times, in microseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=10)[0] * 1e6


async def hop() -> float:
    """Microseconds to a thread that is there already and back, the first decile."""
    loop, times = asyncio.get_running_loop(), []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await loop.run_in_executor(thread, int)
            times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=10)[0] * 1e6


def dump(arrays: Mapping[str, object]) -> bytes:
    """An answer as the service writes it."""
    return orjson.dumps(arrays, option=orjson.OPT_SERIALIZE_NUMPY)


def open_once() -> None:
    """Open a bundle as the service does at its start."""
    Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1)


def collection() -> dict[str, str]:
    """A full collection of garbage in a process that has the service ready, before and after `gc.freeze`."""
    app = create_app(Settings(models_dir=MODELS))
    gc.collect()
    before = fastest(gc.collect, 10) / 1000
    gc.freeze()
    after = fastest(gc.collect, 10) / 1000
    gc.unfreeze()
    del app
    return {"a collection of garbage": f"{before:.0f} ms", "the same after gc.freeze": f"{after:.2f} ms"}


def imported(name: str) -> tuple[float, float]:
    """Seconds to import a module in a new process, and its memory in MB then."""
    ran = subprocess.run([sys.executable, "-c", IMPORT.format(name)], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, ran.stdout.split())
    return seconds, kilobytes / 1000


if __name__ == "__main__":
    main()
