"""What deploy/ray/ says of the service's settings, paths and times, and of Ray's version, is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from harness.paths import MODELS, ROOT
from service.settings import PREFIX, Settings, unknown_variables
from tests.ray.conftest import RAY_SERVICE, SERVE

DOCUMENT: dict[str, Any] = yaml.safe_load(SERVE.read_text())
(APPLICATION,) = DOCUMENT["applications"]
(DEPLOYMENT,) = APPLICATION["deployments"]
SPEC: dict[str, Any] = yaml.safe_load(RAY_SERVICE.read_text())["spec"]
CLUSTER = SPEC["rayClusterConfig"]
WORKERS = CLUSTER["workerGroupSpecs"][0]
IMAGE = (ROOT / "deploy" / "ray" / "Dockerfile").read_text()
PINNED = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def containers() -> Iterator[dict[str, Any]]:
    for group in (CLUSTER["headGroupSpec"], WORKERS):
        yield from group["template"]["spec"]["containers"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a replica."""
    variables = APPLICATION["runtime_env"]["env_vars"]
    assert unknown_variables(variables) == []
    assert all(name.startswith(PREFIX) for name in variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_kuberay_gets_the_document_that_serve_deploy_takes() -> None:
    assert yaml.safe_load(SPEC["serveConfigV2"]) == DOCUMENT


def test_the_application_and_the_deployment_are_those_of_the_service() -> None:
    module, _, name = APPLICATION["import_path"].partition(":")
    assert find_spec(module) is not None
    source = (ROOT / "service" / "ray_serve.py").read_text()
    assert re.search(rf"^{name} = ", source, re.MULTILINE)
    assert f'name="{DEPLOYMENT["name"]}"' in source


def test_requests_are_finished_before_a_replica_ends_and_a_replica_before_its_pod(settings: Settings) -> None:
    drain = DEPLOYMENT["graceful_shutdown_timeout_s"]
    assert drain > settings.drain_seconds
    assert drain > settings.deadline_ms / 1e3
    assert WORKERS["template"]["spec"]["terminationGracePeriodSeconds"] > drain


def test_connections_are_kept_as_long_as_the_service_keeps_them(settings: Settings) -> None:
    assert DOCUMENT["http_options"]["keep_alive_timeout_s"] == settings.keep_alive_seconds


def test_the_service_has_room_for_what_ray_hands_to_it(settings: Settings) -> None:
    assert DEPLOYMENT["max_ongoing_requests"] <= settings.queue
    assert DEPLOYMENT["autoscaling_config"]["target_ongoing_requests"] < DEPLOYMENT["max_ongoing_requests"]
    assert 2 * settings.memory_bytes < DEPLOYMENT["ray_actor_options"]["memory"]


def test_every_replica_finds_a_core() -> None:
    scaling = DEPLOYMENT["autoscaling_config"]
    assert float(WORKERS["rayStartParams"]["num-cpus"]) == DEPLOYMENT["ray_actor_options"]["num_cpus"]
    assert WORKERS["minReplicas"] == WORKERS["replicas"] == scaling["min_replicas"]
    assert WORKERS["maxReplicas"] == scaling["max_replicas"]


def test_ports_versions_and_the_models_folder_agree(settings: Settings) -> None:
    for container in containers():
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["serve"] == DOCUMENT["http_options"]["port"]
        assert f"--tag {container['image']} ." in IMAGE
    assert [CLUSTER["rayVersion"]] == PINNED
    assert f"rayproject/ray:{CLUSTER['rayVersion']}-py311" in IMAGE
    assert f"COPY {MODELS.name} {settings.models_dir}\n" in IMAGE


def test_all_nodes_have_the_same_variables() -> None:
    head, worker = (container["env"] for container in containers())
    assert head == worker
