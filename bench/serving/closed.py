"""Closed loop: wrk keeps so many connections busy, each with its next request as soon as it has its answer.

One thread of wrk, in C, leaves a whole core of two to a server with one worker. Whether it was enough is measured each
time: `generator_cores` near 1 would mean that wrk, not the server, set the pace.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.serving.servers import Server
from bench.serving.traffic import Request
from harness.servers import cpu_seconds_of_children

SCRIPT: Final = Path(__file__).with_name("closed.lua")


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured. Times are milliseconds; `rate` counts answers with status 2xx or 3xx only."""

    rate: float
    images_rate: float
    p50: float
    p90: float
    p99: float
    worst: float
    answers: int
    failed: int  # other statuses, broken connections, answers that took more than 10 s
    generator_cores: float
    server_cores: float
    other_cores: float  # used by everything else on the machine: noise
    resident: float


def wrk() -> str:
    """The path of wrk; without it the program ends with a sentence that says where to get it."""
    if found := shutil.which("wrk"):
        return found
    sys.exit("The benchmark needs wrk: `apt-get install wrk` on Debian and Ubuntu, `brew install wrk` on a Mac.")


def closed(
    server: Server, request: Request, connections: int, seconds: int, meanwhile: Callable[[], None] = lambda: None
) -> Load:
    """Load `server` for so many seconds. `meanwhile` is called when the load has begun, and ends before it."""
    target = f"http://127.0.0.1:{server.port}{request.path}"
    command = [wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), target, "--"]
    command += [request.content_type, request.accept]
    command += [_body_file(b"\n".join(request.others)), "lines"] if request.others else [_body_file(request.body), ""]
    command += [part for header in request.headers for part in header]
    used, children, busy, began = server.cpu_seconds(), cpu_seconds_of_children(), _busy_seconds(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        meanwhile()
        out, err = process.communicate(timeout=seconds + 30)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"wrk failed: {err.strip() or out.strip()}")
    elapsed = time.perf_counter() - began
    # Of the children only wrk has ended meanwhile; the servers go on running.
    generator, serving = cpu_seconds_of_children() - children, server.cpu_seconds() - used
    others = max(0.0, _busy_seconds() - busy - generator - serving)
    said = json.loads(out.splitlines()[-1])
    wall = said["microseconds"] / 1e6
    good = (said["requests"] - said["non_2xx"]) / wall
    if not good:
        raise RuntimeError("It answered nothing, or nothing but errors.")
    return Load(
        rate=good,
        images_rate=good * request.images,
        p50=said["p50"] / 1e3,
        p90=said["p90"] / 1e3,
        p99=said["p99"] / 1e3,
        worst=said["max"] / 1e3,
        answers=said["requests"],
        failed=said["non_2xx"] + said["broken"] + said["timeouts"],
        generator_cores=generator / wall,
        server_cores=serving / wall,
        other_cores=others / elapsed,
        resident=server.resident(),
    )


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vae-bench-")


@functools.cache
def _body_file(body: bytes) -> str:
    path = Path(_folder().name) / f"body-{_body_file.cache_info().misses}"
    path.write_bytes(body)
    return str(path)


def _busy_seconds() -> float:
    """Processor time that the whole machine has used."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
