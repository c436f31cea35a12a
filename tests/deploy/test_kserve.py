"""KServe's runtime and service: the routes of the Open Inference Protocol, on models as KServe lays them out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from harness.paths import MODELS
from service import lifecycle
from service.app import create_app
from service.contract import CONTRACT_VERSION
from service.settings import PREFIX, Settings, unknown_variables
from tests.deploy import kustomize, manifests
from tests.deploy.conftest import Image
from tests.deploy.kustomize import Object
from tests.deploy.manifests import FOLDER, container, environment, only, pod, probes

# Where KServe puts the content of `storageUri`.
MOUNT = "/mnt/models"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return kustomize.build(FOLDER / "kserve")


@pytest.fixture(scope="module")
def runtime(objects: list[Object]) -> Object:
    return dict(only(objects, "ServingRuntime")["spec"])


@pytest.fixture(scope="module")
def predictor(objects: list[Object]) -> Object:
    return dict(only(objects, "InferenceService")["spec"]["predictor"])


@pytest.fixture(scope="module")
def variables(runtime: Object, predictor: Object) -> dict[str, str]:
    """What the container gets: the runtime's variables, and the service's in their place."""
    return environment(container(runtime, "kserve-container")) | environment(predictor["model"])


@pytest.fixture(scope="module")
def settings(variables: dict[str, str]) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return Settings()


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application with these settings, and NAME/VERSION/ in its mount, as in the storage."""
    mount = tmp_path_factory.mktemp("mnt") / "models"
    shutil.copytree(MODELS / "mnist-mlp" / "2", mount / "mnist-mlp" / "2")
    with TestClient(create_app(settings.model_copy(update={"models_dir": mount}))) as client:
        yield client


def test_both_fit_the_schemas_of_their_kinds(objects: list[Object]) -> None:
    assert sorted(thing["kind"] for thing in objects) == ["InferenceService", "ServingRuntime"]
    for thing in objects:
        manifests.check(thing)
        with pytest.raises(Exception, match="Additional properties are not allowed"):
            manifests.check(thing | {"spec": thing["spec"] | {"modelFormat": {}}})


def test_the_service_asks_for_what_the_runtime_offers(objects: list[Object], runtime: Object) -> None:
    model = only(objects, "InferenceService")["spec"]["predictor"]["model"]
    (offered,) = runtime["supportedModelFormats"]
    assert model["runtime"] == only(objects, "ServingRuntime")["metadata"]["name"]
    assert model["protocolVersion"] in runtime["protocolVersions"] == ["v2"]
    assert model["modelFormat"] == {"name": offered["name"], "version": offered["version"]}
    assert offered["version"] == str(CONTRACT_VERSION)


def test_the_variables_are_settings_and_the_models_are_read_from_the_mount(
    variables: dict[str, str], settings: Settings
) -> None:
    assert all(name.startswith(PREFIX) for name in variables)
    assert unknown_variables(variables) == []
    assert settings.models_dir == Path(MOUNT)


def test_the_port_is_the_services_and_knative_takes_its_name(runtime: Object, settings: Settings, image: Image) -> None:
    (port,) = container(runtime, "kserve-container")["ports"]
    assert port["containerPort"] == settings.port == image.port
    assert port["name"] in ("http1", "h2c")
    assert runtime["annotations"]["prometheus.kserve.io/port"] == str(settings.port)


def test_each_probe_and_the_metrics_are_routes_that_answer_200(client: TestClient, runtime: Object) -> None:
    asked = probes(container(runtime, "kserve-container"))
    paths = {name: probe["httpGet"]["path"] for name, probe in asked.items()}
    assert paths == {
        "startup": "/v2/health/live",
        "liveness": "/v2/health/live",
        "readiness": "/v2/health/ready",
    }
    for path in (*paths.values(), runtime["annotations"]["prometheus.kserve.io/path"], "/livez", "/readyz"):
        assert client.get(path).status_code == 200


def test_models_in_the_mount_are_served_by_the_protocol(client: TestClient, settings: Settings) -> None:
    answer = client.get(f"/v2/models/{settings.default_model}.encoder").json()
    assert (answer["name"], answer["versions"]) == ("mnist-mlp.encoder", ["2"])
    assert client.get(f"/v2/models/{settings.default_model}.encoder/ready").status_code == 200


def test_the_container_is_that_of_the_plain_deployment_but_for_models_and_routes(
    runtime: Object, predictor: Object
) -> None:
    plain = pod(kustomize.build(FOLDER / "base"))["spec"]
    theirs, ours = container(runtime, "kserve-container"), container(plain)
    for field in ("image", "resources", "securityContext"):
        assert theirs[field] == ours[field]
    for name, probe in probes(ours).items():
        assert {**theirs[f"{name}Probe"], "httpGet": None} == {**probe, "httpGet": None}
    for field in ("securityContext", "enableServiceLinks", "automountServiceAccountToken"):
        assert predictor[field] == plain[field]
    assert predictor["terminationGracePeriodSeconds"] == plain["terminationGracePeriodSeconds"]


def test_a_drain_ends_before_the_pod_is_killed(predictor: Object, settings: Settings) -> None:
    drain = settings.drain_pause_seconds + settings.drain_seconds + 2 * lifecycle.END_SECONDS
    assert predictor["terminationGracePeriodSeconds"] > drain
