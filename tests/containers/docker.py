"""Run `docker`, and containers of the image that the tests have built."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.paths import ROOT
from harness.servers import Server, wait_for

IMAGE = "vae-service"


def run(*command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run a command; give what it printed, or fail with it."""
    ended = subprocess.run(
        command, cwd=cwd, env=os.environ | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if ended.returncode != 0:
        pytest.fail(f"{' '.join(command)}: exit {ended.returncode}\n{ended.stdout}")
    return ended.stdout.strip()


def inspect(what: str) -> Any:
    """What the engine knows of an image or a container."""
    return json.loads(run("docker", "inspect", what))[0]


@dataclass(frozen=True)
class Container:
    """A running container of the service, and where its port 8000 is on this machine."""

    name: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Any:
        """What the engine says of its process: Status, Running, OOMKilled, ExitCode, Health."""
        return inspect(self.name)["State"]

    def log(self) -> str:
        """Everything that the service has logged."""
        return run("docker", "logs", self.name)

    def shell(self, script: str) -> str:
        """What a script prints inside. A command of it may fail."""
        return run("docker", "exec", self.name, "bash", "-c", f"{script}\ntrue")

    def seconds_to_start(self) -> float:
        """From the start of the container until the service answered, by its log."""
        (line,) = (line for line in self.log().splitlines() if "Application startup complete" in line)
        began, answered = (datetime.fromisoformat(text[:23]) for text in (self.state["StartedAt"], line))
        return (answered - began).total_seconds()

    @contextmanager
    def as_server(self) -> Iterator[Server]:
        """The same for tests of servers. Its process is one that ends when the container does."""
        with subprocess.Popen(["docker", "wait", self.name], stdout=subprocess.DEVNULL) as process:
            try:
                yield Server(process, self.port, Path(os.devnull))
            finally:
                process.kill()


@contextmanager
def started(*options: str) -> Iterator[Container]:
    """A container of the image, healthy, without any right. `options` are those of `docker run`."""
    hardened = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--publish=127.0.0.1:0:8000"]
    name = run("docker", "run", "--detach", *hardened, *options, IMAGE).splitlines()[-1]
    try:
        container = Container(name, int(run("docker", "port", name, "8000").rpartition(":")[2]))
        wait_for(partial(is_settled, container))
        assert container.state["Health"]["Status"] == "healthy", container.log()
        yield container
    finally:
        run("docker", "rm", "--force", name)


def is_settled(container: Container) -> bool:
    """Whether a container is healthy, or will never be."""
    state = container.state
    return not state["Running"] or state["Health"]["Status"] != "starting"
