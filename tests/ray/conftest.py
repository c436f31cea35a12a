"""Clusters with the service on them, made of what is in deploy/ray/: one behind Ray's own proxy, one behind HAProxy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from harness.paths import MODELS, ROOT
from harness.servers import Server, running, status, wait_for

PYTHON: Final = ROOT / ".ray" / "bin" / "python"
SERVE: Final = ROOT / "deploy" / "ray" / "serve.yaml"
RAY_SERVICE: Final = ROOT / "deploy" / "ray" / "rayservice.yaml"

# For a machine that others use, too: Ray waits longer before it gives something up, and not before it ends something.
PATIENT: Final = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "200",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "200",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",
}


class Cluster:
    """A cluster of two nodes with room for a replica each. It answers at `url`, and is told what is to happen to it."""

    def __init__(self, process: subprocess.Popen[str], port: int, models: Path) -> None:
        self.port, self.models = port, models
        self.url = f"http://127.0.0.1:{port}"
        self._process = process

    def tell(self, *command: object) -> Any:
        """Give a command of cluster.py, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "The cluster has ended."
        return json.loads(answer)

    def replicas(self) -> dict[int, bool]:
        """The replicas that run, by their pid, and whether each is on the node that has the proxy."""
        replicas = self.tell("status")["replicas"]
        return {int(pid): on_head for pid, (state, on_head) in replicas.items() if state == "RUNNING"}


@pytest.fixture(scope="module", params=["Ray's proxy", "HAProxy"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose first replica answers."""
    with contextlib.ExitStack() as stack:
        # A short path: sockets are in it, whose paths have at most 107 bytes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-")))
        models = shutil.copytree(MODELS, folder / "models")
        port, *ports = free_ports(3)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("VAE_", "RAY_"))}
        environment |= variables() | PATIENT | places(folder, *ports)
        if request.param != "HAProxy":
            environment["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        command = [str(PYTHON), str(Path(__file__).with_name("cluster.py")), json.dumps(document(port, models))]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        found = Cluster(process, port, models)
        found.tell("status")  # is answered when the application runs
        wait_for(lambda: status(port, "/readyz") == 200)
        yield found


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service alone."""
    with running(tmp_path_factory.mktemp("server") / "log", models="") as server:
        yield server


def document(port: int, models: Path) -> dict[str, Any]:
    """deploy/ray/serve.yaml for a small cluster on one machine, where the second replica comes with the load."""
    found: dict[str, Any] = yaml.safe_load(SERVE.read_text())
    found["proxy_location"] = "HeadOnly"
    found["http_options"]["port"] = port
    (application,) = found["applications"]
    application["runtime_env"]["env_vars"] |= {"VAE_MODELS_DIR": str(models), "PYTHONPATH": str(ROOT)}
    (deployment,) = application["deployments"]
    deployment["ray_actor_options"] = {"num_cpus": 1}
    deployment["autoscaling_config"] |= {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 0}
    deployment["autoscaling_config"] |= {"metrics_interval_s": 0.2, "look_back_period_s": 1}
    deployment |= {"health_check_period_s": 0.5, "health_check_timeout_s": 200}
    return found


def variables() -> dict[str, str]:
    """What deploy/ray/rayservice.yaml sets in the environment of Ray."""
    cluster = yaml.safe_load(RAY_SERVICE.read_text())["spec"]["rayClusterConfig"]
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def places(folder: Path, metrics: int, stats: int) -> dict[str, str]:
    """Where Ray and HAProxy may write and listen, so that two clusters of one machine have nothing in common."""
    files = {"CONFIG_FILE_LOC": "h.cfg", "SOCKET_PATH": "admin", "METRICS_SOCKET_PATH": "metrics"}
    files |= {"SERVER_STATE_BASE": "", "SERVER_STATE_FILE": "state"}
    return {
        "RAY_TMPDIR": str(folder),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
    } | {f"RAY_SERVE_HAPROXY_{what}": f"{folder}/{file}" for what, file in files.items()}


def free_ports(count: int) -> list[int]:
    """So many ports that nobody uses now. Ray has to be told its ports: it cannot say which it took."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
