"""HAProxy and nginx with the files of `deploy/`, in front of servers on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import string
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.connection import SECONDS, Connection
from harness.paths import ROOT
from harness.servers import cpu_seconds_of, wait_for

HAPROXY: Final = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
NGINX: Final = ROOT / "deploy" / "nginx" / "nginx.conf"
KINDS: Final = ("haproxy", "nginx")


class Local(Connection):
    """A connection to what listens on a socket of the file system: it needs no free port."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.stream = self.socket.makefile("rb")


@dataclass(frozen=True)
class Balancer:
    """A running balancer."""

    process: subprocess.Popen[bytes]
    listen: Path
    log: Path

    def connect(self) -> Local:
        """A new connection of a client."""
        return Local(self.listen)

    def cpu_seconds(self) -> float:
        """The processor time that it and its children, which live as long as it, have used."""
        pid = self.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return sum(map(cpu_seconds_of, (pid, *children)))


def program(name: str) -> str | None:
    """The path of a program; None where it is not installed. Debian has nginx and HAProxy outside of a user's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def balancing(kind: str, ports: Sequence[int], folder: Path, port: int | None = None) -> Iterator[Balancer]:
    """A balancer in front of the servers at one or two ports, until the block ends.

    `folder`: an empty one, with a short path, where it writes and listens, or it listens at `port`.
    """
    found = program(kind)
    if found is None:
        raise FileNotFoundError(f"{kind} is not installed")
    path, log = folder / "s", folder / "log"
    servers = {f"SERVER_{number}": f"127.0.0.1:{server}" for number, server in enumerate(ports, 1)}
    listen = ("unix@" if kind == "haproxy" else "unix:") + str(path) if port is None else f"127.0.0.1:{port}"
    if kind == "haproxy":
        command, filled = [found, "-db", "-f", str(HAPROXY)], servers | {"LISTEN": listen}
    else:
        folder.chmod(0o755)  # as root nginx works as another user, who writes long bodies there
        (folder / "nginx.conf").write_text(nginx(servers | {"LISTEN": listen}))
        command, filled = [found, "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"], {}
    with serving(command, path if port is None else port, log, filled) as process:
        yield Balancer(process, path, log)


@contextlib.contextmanager
def serving(
    command: Sequence[str], where: Path | int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens at a path or a port, until the block ends. Raises RuntimeError when it ends before that.

    `environment`: variables besides those of this process.
    """
    with (
        log.open("wb") as written,
        subprocess.Popen(command, env=os.environ | (environment or {}), stdout=written, stderr=written) as process,
    ):
        try:
            wait_for(lambda: process.poll() is not None or _listens(where))
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {log.read_text()}")
            yield process
        finally:
            process.terminate()


def nginx(values: dict[str, str]) -> str:
    """The file of nginx with these variables filled in, without the lines of servers that are not there."""
    lines = NGINX.read_text().splitlines(keepends=True)
    kept = [line for line in lines if "server ${SERVER_" not in line or any(f"${{{name}}}" in line for name in values)]
    return string.Template("".join(kept)).safe_substitute(values)


def _listens(where: Path | int) -> bool:
    with contextlib.suppress(OSError), Local(where) if isinstance(where, Path) else Connection(where):
        return True
    return False
