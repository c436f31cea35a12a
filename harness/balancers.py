"""HAProxy and nginx with the files of `deploy/`, in front of servers on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import string
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.connection import SECONDS, Connection
from harness.paths import ROOT
from harness.servers import wait_for

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
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_cpu_seconds(each) for each in (str(pid), *children))


def program(kind: str) -> str | None:
    """The path of nginx or HAProxy; None where it is not installed. Debian has them outside of a user's PATH."""
    return shutil.which(kind, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def balancing(kind: str, ports: Sequence[int], folder: Path, port: int | None = None) -> Iterator[Balancer]:
    """A balancer in front of the servers at one or two ports, until the block ends.

    `folder`: an empty one, with a short path, where it writes and listens, or it listens at `port`.
    """
    found = program(kind)
    if found is None:
        raise FileNotFoundError(f"{kind} is not installed")
    path, log = folder / "s", folder / "log"
    servers = {f"SERVER_{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    listen = ("unix@" if kind == "haproxy" else "unix:") + str(path) if port is None else f"127.0.0.1:{port}"
    if kind == "haproxy":
        command, filled = [found, "-db", "-f", str(HAPROXY)], servers | {"LISTEN": listen}
    else:
        folder.chmod(0o755)  # as root nginx works as another user, who writes long bodies there
        (folder / "nginx.conf").write_text(nginx(servers | {"LISTEN": listen}))
        command, filled = [found, "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"], {}
    with (
        log.open("wb") as written,
        subprocess.Popen(command, env=os.environ | filled, stdout=written, stderr=written) as process,
    ):
        try:
            wait_for(lambda: process.poll() is not None or _listens(path if port is None else port))
            if process.poll() is not None:
                raise RuntimeError(f"{kind} ended: {log.read_text()}")
            yield Balancer(process, path, log)
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


def _cpu_seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime
