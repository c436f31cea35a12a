"""Start a server on free ports, wait until it answers, account for what it uses, stop it and all that it started."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from bench.serving.programs import Program
from bench.serving.traffic import Request
from harness.paths import ROOT

START_SECONDS: Final = 90
SETTLE_SECONDS: Final = 0.5  # after a load: some servers do not survive a pause in the middle of a request


class Unfit(Exception):
    """A server that does not start, or answers wrongly; the message is one sentence that says how."""


@dataclass(frozen=True)
class Server:
    """A program that is running and has answered its own request."""

    program: Program
    port: int
    process: psutil.Process
    answer: bytes

    def family(self) -> list[psutil.Process]:
        """The process and everything that it started."""
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still until the block ends. Some servers keep a core busy even when they get no requests."""
        time.sleep(SETTLE_SECONDS)
        family = self.family()
        try:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        seconds = 0.0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def resident(self) -> float:
        """Resident memory in megabytes (10^6 bytes), summed over the processes."""
        total = 0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6


@contextmanager
def running(program: Program, python: str, env: dict[str, str]) -> Iterator[Server]:
    """Serve until the block ends. Raises Unfit when there is no answer with status 200."""
    ports = dict(zip(("port", "port2", "port3"), map(str, free_ports(3)), strict=True))
    with tempfile.TemporaryDirectory(prefix="vae-") as scratch, tempfile.TemporaryFile() as log:
        command = [part.format(python=python, **ports) for part in program.command.split(" ")]
        ours = {name: value.format(scratch=scratch, **ports) for name, value in program.env.items()}
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": scratch} | env | ours,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches only the benchmark, which then stops its servers
        )
        process = psutil.Process(popen.pid)
        try:
            port = int(ports["port"])
            yield Server(program, port, process, _first_answer(program.request, port, popen, log.fileno()))
        finally:
            _stop(popen, process)


def free_ports(count: int) -> list[int]:
    """So many TCP ports that nobody uses now. Peers must be told theirs: they cannot say which they took."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def post(port: int, request: Request) -> tuple[int, bytes]:
    """Status and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "POST",
            request.path,
            request.body,
            {"content-type": request.content_type, "accept": request.accept, **dict(request.headers)},
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(server: Server, mu: npt.NDArray[np.float32]) -> None:
    """Raise Unfit unless the answer holds `mu`, which the engine gave for the same digit."""
    try:
        document, end = json.JSONDecoder().raw_decode(server.answer.decode("latin-1"))
        found = np.asarray(_mu(document, server.answer[end:]), np.float32).reshape(-1)
    except (ValueError, LookupError, TypeError) as error:
        raise Unfit(f"Its answer cannot be read: {server.answer[:100]!r}") from error
    if found.shape != mu.shape or not np.allclose(found, mu, rtol=1e-4, atol=1e-4):
        raise Unfit("Its answer is not the encoder's.")


def _mu(answer: Any, tail: bytes) -> Any:
    """`mu` in the answer of any program: in an object, in a list of one object, or among the protocol's outputs.

    Outputs that are bytes are in the tail, one after the other.
    """
    if isinstance(answer, list):
        return _mu(answer[0], tail)
    for output in answer.get("outputs", ()):
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == "mu":
            return np.frombuffer(tail[:size], "<f4") if size else output["data"]
        tail = tail[size:]
    return answer["mu"]


def _first_answer(request: Request, port: int, popen: subprocess.Popen[bytes], log: int) -> bytes:
    answered = "nothing"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and popen.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            status, body = post(port, request)
            if status == 200:
                return body
            answered = f"{status} {body[:100]!r}"
        time.sleep(0.1)
    ended = f"It ended with status {popen.returncode}" if popen.poll() is not None else f"It answered {answered}"
    text = os.pread(log, 1_000_000, 0).decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(text) if line.strip()), "nothing")
    raise Unfit(f"{ended}; the last it wrote: {last[:300]}")


def _stop(popen: subprocess.Popen[bytes], process: psutil.Process) -> None:
    # The children are listed before the parent ends: some servers leave their workers running.
    family = []
    with suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
    popen.terminate()
    with suppress(subprocess.TimeoutExpired):
        popen.wait(10)
    _, alive = psutil.wait_procs(family, timeout=3)
    for orphan in alive:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    popen.kill()
    popen.wait()
    psutil.wait_procs(alive, timeout=5)
    for number in (
        process.pid,
        *(one.pid for one in family),
    ):  # PyTriton misspells its name, and sometimes leaves this behind
        for forgotten in Path("/dev/shm").glob(f"pytrtion{number}-*"):
            forgotten.unlink(missing_ok=True)
