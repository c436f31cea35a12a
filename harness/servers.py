"""Start a server in a process of its own, wait until it is ready, look at its processes.

The system chooses the port. The server says in its log which one, once it listens.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.paths import ROOT

PATIENCE_SECONDS: Final = 240  # an upper limit: what has not happened by then never will
POLL_SECONDS: Final = 0.005

# A variable of the environment: what starts a module, in place of `python -m`. It keeps the process's id.
SERVER_COMMAND: Final = "SERVER_COMMAND"


@dataclass(frozen=True)
class Server:
    """A running server, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """The pids of its children that have the models open."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if "onnxruntime" in _maps(child)]

    def memory(self, line: str = "VmRSS") -> int:
        """A line of /proc/PID/status, in bytes. VmHWM is the peak since `forget_peak`."""
        return memory_of(self.process.pid, line)

    def forget_peak(self) -> None:
        """Have VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """The processor time that all its threads have used. Other processes on the machine do not count."""
        return cpu_seconds_of(self.process.pid)


@contextmanager
def running(log: Path, module: str = "service", /, **settings: object) -> Iterator[Server]:
    """A server of `python -m module`, ready, until the block ends. Its log goes to a file: a full pipe would block it.

    `settings` are those of the service: `workers=2` is VAE_WORKERS=2. Of the shipped models it serves the default one's
    versions, which open quickly; with `models=""` all of them.
    """
    few = {} if "models_dir" in settings else {"models": "mnist-mlp"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAE_")}
    chosen = {f"VAE_{name.upper()}": str(value) for name, value in ({"port": 0} | few | settings).items()}
    with (
        log.open("wb") as written,
        subprocess.Popen(
            [*shlex.split(os.environ.get(SERVER_COMMAND, f"{sys.executable} -m")), module],
            cwd=ROOT,
            env=environment | chosen,
            stderr=written,
        ) as process,
    ):
        try:
            server = Server(process, _port(process, log), log)
            _wait(process, log, lambda: status(server.port, "/readyz") == 200)
            yield server
        finally:
            process.kill()


def status(port: int, path: str, method: str = "GET", body: bytes | None = None) -> int | None:
    """The status of one answer; None where nobody listens. A body is a PNG."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(ConnectionError, http.client.HTTPException):
        connection.request(method, path, body, {"content-type": "image/png"} if body else {})
        return connection.getresponse().status
    return None


def is_running(pid: int) -> bool:
    """Whether a process has not ended. One that has, and whose parent has not asked how, is not running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory_of(pid: int, line: str = "VmRSS") -> int:
    """A line of /proc/PID/status, in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{line}:")[1].split()[0]) * 1024


def cpu_seconds_of(pid: int) -> float:
    """The processor time that all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def cpu_seconds_of_children() -> float:
    """The processor time that children of this process have used which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Look until the condition holds. Raises TimeoutError when it does not within the limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It has not happened within {seconds:g} s.")
        time.sleep(POLL_SECONDS)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the log names."""
    found: list[str] = []

    def said() -> bool:
        found[:] = re.findall(r" running on http://[^ ]*:(\d+) ", log.read_text())
        return bool(found)

    _wait(process, log, said)
    return int(found[0])


def _wait(process: subprocess.Popen[bytes], log: Path, condition: Callable[[], bool]) -> None:
    """Wait for a condition. Raises RuntimeError with the log when the process ends before it holds."""
    wait_for(lambda: condition() or process.poll() is not None)
    if process.poll() is not None:
        raise RuntimeError(f"The server ended before it was ready:\n{log.read_text()}")


def _maps(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has just ended
        return ""
