"""The manifests fit Kubernetes' schemas and each other, and say what the service, its image and its metrics say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.paths import ROOT
from service import lifecycle
from service.inference import health
from service.settings import Settings, unknown_variables, variable
from service.telemetry.families import FAMILIES
from tests.deploy import kustomize, manifests
from tests.deploy.conftest import Image
from tests.deploy.kustomize import Object
from tests.deploy.manifests import COMBINATIONS, FOLDER, container, environment, only, pod, probes


@pytest.fixture(scope="module", params=list(COMBINATIONS.values()), ids=list(COMBINATIONS))
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The objects of the base with some components."""
    return kustomize.build(manifests.written(tmp_path_factory.mktemp("kubernetes"), *request.param))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The objects of the base with every component that goes together with the others."""
    folder = tmp_path_factory.mktemp("kubernetes")
    return kustomize.build(manifests.written(folder, *COMBINATIONS["all with a volume"]))


@pytest.fixture
def settings(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that the service reads in the pod."""
    for name, value in environment(container(pod(objects)["spec"])).items():
        monkeypatch.setenv(name, value)
    return Settings()


class TestSchemas:
    def test_every_object_fits_the_schema_of_its_kind(self, objects: list[Object]) -> None:
        for thing in objects:
            manifests.check(thing)

    def test_the_schemas_refuse_a_misspelt_field(self, everything: list[Object]) -> None:
        kinds = {thing["kind"] for thing in everything}
        assert {"Deployment", "ServiceMonitor", "PrometheusRule"} < kinds
        for thing in everything:
            with pytest.raises(Exception, match="Additional properties are not allowed"):
                manifests.check(thing | {"spec": thing["spec"] | {"podSelectr": {}}})


class TestKustomize:
    def test_the_example_has_its_own_namespace_and_registry(self, image: Image) -> None:
        objects = kustomize.build(FOLDER / "overlays" / "example")
        assert {thing["metadata"]["namespace"] for thing in objects} == {"vae"}
        assert container(pod(objects)["spec"])["image"] == f"registry.example.com/vae-service:{image.version}"
        for thing in objects:
            manifests.check(thing)

    @pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize built in, is not here")
    @pytest.mark.parametrize("components", [(), COMBINATIONS["all with a volume"], ("models-init",)], ids=len)
    def test_kustomize_makes_the_same_of_it(self, components: tuple[str, ...], tmp_path: Path) -> None:
        folder = manifests.written(tmp_path, *components)
        made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
        assert in_order(list(yaml.safe_load_all(made))) == in_order(kustomize.build(folder))


class TestPod:
    def test_its_image_has_the_projects_version(self, objects: list[Object], image: Image) -> None:
        assert container(pod(objects)["spec"])["image"] in {
            f"vae-service:{image.version}",
            f"vae-service:{image.version}-gpu",
        }

    def test_its_variables_are_settings(self, objects: list[Object], settings: Settings) -> None:
        named = environment(container(pod(objects)["spec"]))
        assert unknown_variables(named) == []
        assert {variable(name) for name in settings.model_fields_set} >= named.keys()

    def test_no_service_of_the_cluster_can_be_taken_for_a_setting(self, objects: list[Object]) -> None:
        """Kubernetes sets VAE_PORT=tcp://... in the pods beside a Service that is called vae."""
        assert pod(objects)["spec"]["enableServiceLinks"] is False
        name = only(objects, "Service")["metadata"]["name"].upper().replace("-", "_")
        assert not {f"{name}_PORT", f"{name}_SERVICE_HOST"} & {variable(field) for field in Settings.model_fields}

    def test_its_port_is_the_services(self, objects: list[Object], settings: Settings, image: Image) -> None:
        (port,) = container(pod(objects)["spec"])["ports"]
        assert port["containerPort"] == settings.port == image.port
        assert only(objects, "Service")["spec"]["ports"][0]["targetPort"] == port["name"]
        (rule,) = only(objects, "NetworkPolicy")["spec"]["ingress"]
        assert [allowed["port"] for allowed in rule["ports"]] == [port["name"]]
        assert {probe["httpGet"]["port"] for probe in probes(container(pod(objects)["spec"])).values()} == {
            port["name"]
        }

    def test_models_are_mounted_where_the_service_looks_for_them(self, objects: list[Object], image: Image) -> None:
        spec = pod(objects)["spec"]
        mounts = container(spec).get("volumeMounts", [])
        assert "VAE_MODELS_DIR" not in environment(container(spec))
        assert [(mount["mountPath"], mount["readOnly"]) for mount in mounts] in ([], [(image.models, True)])
        used = {mount["name"] for each in kustomize.containers(spec) for mount in each.get("volumeMounts", ())}
        assert {volume["name"] for volume in spec.get("volumes", ())} == used

    def test_a_claim_that_it_mounts_is_there(self, objects: list[Object]) -> None:
        volumes = pod(objects)["spec"].get("volumes", ())
        claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "emptyDir" not in volume}
        assert claims == {thing["metadata"]["name"] for thing in objects if thing["kind"] == "PersistentVolumeClaim"}

    def test_it_may_do_nothing_that_the_restricted_profile_forbids(self, objects: list[Object], image: Image) -> None:
        """Kubernetes' Pod Security Standards, and a read-only root beyond them."""
        spec = pod(objects)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": image.uid,
            "runAsGroup": image.uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for each in kustomize.containers(spec):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_its_memory_is_bounded_and_reserved(self, objects: list[Object]) -> None:
        for each in kustomize.containers(pod(objects)["spec"]):
            assert each["resources"]["requests"]["memory"] == each["resources"]["limits"]["memory"]


class TestProbes:
    @pytest.fixture
    def found(self, objects: list[Object]) -> dict[str, Object]:
        return probes(container(pod(objects)["spec"]))

    def test_a_pod_is_restarted_when_it_is_stuck_and_left_out_when_it_is_not_ready(
        self, found: dict[str, Object]
    ) -> None:
        paths = {name: probe["httpGet"]["path"] for name, probe in found.items()}
        assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}

    def test_a_blocked_process_ends_itself_before_it_is_killed(
        self, found: dict[str, Object], settings: Settings
    ) -> None:
        """It then logs where it was stuck. The first probe that fails may come as soon as it is blocked."""
        assert seconds_to_fail(found["liveness"]) > settings.stall_seconds

    def test_a_self_test_has_time_to_answer(self, found: dict[str, Object]) -> None:
        assert found["readiness"]["timeoutSeconds"] > health._PROBE_SECONDS

    def test_a_drain_ends_before_the_pod_is_killed(self, objects: list[Object], settings: Settings) -> None:
        """What a supervisor with several workers takes, too: its end and theirs."""
        drain = settings.drain_pause_seconds + settings.drain_seconds + 2 * lifecycle.END_SECONDS
        assert pod(objects)["spec"]["terminationGracePeriodSeconds"] > drain

    def test_whoever_follows_the_readiness_has_seen_the_drain_before_the_port_closes(
        self, objects: list[Object], settings: Settings
    ) -> None:
        """A preStop hook would only put the signal off, and with it the moment from which it is not ready."""
        found = container(pod(objects)["spec"])
        readiness = found["readinessProbe"]
        assert settings.drain_pause_seconds >= readiness["periodSeconds"] * readiness["failureThreshold"]
        assert "lifecycle" not in found


class TestSelectors:
    def test_each_of_them_selects_the_pods(self, objects: list[Object]) -> None:
        labels = pod(objects)["metadata"]["labels"]
        selectors = [
            only(objects, "Service")["spec"]["selector"],
            only(objects, "Deployment")["spec"]["selector"]["matchLabels"],
            only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            *(
                constraint["labelSelector"]["matchLabels"]
                for constraint in pod(objects)["spec"]["topologySpreadConstraints"]
            ),
        ]
        assert len(selectors) == 6
        for selector in selectors:
            assert selector.items() <= labels.items()

    def test_the_autoscaler_scales_the_deployment_which_names_no_number_itself(self, objects: list[Object]) -> None:
        deployment, autoscaler = only(objects, "Deployment"), only(objects, "HorizontalPodAutoscaler")
        target = autoscaler["spec"]["scaleTargetRef"]
        assert target == {
            "apiVersion": deployment["apiVersion"],
            "kind": deployment["kind"],
            "name": deployment["metadata"]["name"],
        }
        assert "replicas" not in deployment["spec"]
        assert autoscaler["spec"]["minReplicas"] > only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"]


class TestQueueDepth:
    """The autoscaler's second metric, and the rule of prometheus-adapter that makes it."""

    @pytest.fixture
    def metric(self, everything: list[Object]) -> Object:
        resource, pods = only(everything, "HorizontalPodAutoscaler")["spec"]["metrics"]
        (of_base,) = only(kustomize.build(FOLDER / "base"), "HorizontalPodAutoscaler")["spec"]["metrics"]
        assert resource == of_base
        return dict(pods["pods"])

    def test_it_is_a_gauge_of_the_service_and_its_target_is_far_below_the_limit(self, metric: Object) -> None:
        (family,) = (family for family in FAMILIES if family.name == metric["metric"]["name"])
        assert family.kind == "gauge"
        assert int(metric["target"]["averageValue"]) == Settings().queue // 8

    def test_the_adapters_rule_makes_it(self, metric: Object) -> None:
        values = yaml.safe_load((FOLDER / "components" / "queue-depth" / "prometheus-adapter.yaml").read_text())
        (rule,) = values["rules"]["custom"]
        assert rule["name"]["as"] == metric["metric"]["name"]
        assert rule["seriesQuery"] == metric["metric"]["name"] + '{namespace!="",pod!=""}'
        assert rule["resources"]["overrides"].keys() == {"namespace", "pod"}


class TestMonitoring:
    def test_prometheus_finds_the_service_and_its_metrics(self, everything: list[Object]) -> None:
        service, monitor = only(everything, "Service"), only(everything, "ServiceMonitor")
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == service["spec"]["ports"][0]["name"]
        assert endpoint["path"] == "/metrics"

    def test_its_rules_are_those_that_prometheus_reads_beside_compose(self, everything: list[Object]) -> None:
        """`make alerts` writes them."""
        rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())
        assert only(everything, "PrometheusRule")["spec"] == rules

    def test_its_rules_name_the_job_that_prometheus_gives_the_service(self, everything: list[Object]) -> None:
        (endpoint,) = only(everything, "ServiceMonitor")["spec"]["endpoints"]
        (relabelling,) = endpoint["relabelings"]
        assert relabelling == {"targetLabel": "job", "replacement": "vae"}
        assert set(re.findall(r'job="([^"]*)"', " ".join(expressions(everything)))) <= {"vae"}


def expressions(objects: list[Object]) -> list[str]:
    """What the alerts ask Prometheus."""
    groups = only(objects, "PrometheusRule")["spec"]["groups"]
    return [str(rule["expr"]) for group in groups for rule in group["rules"]]


def seconds_to_fail(probe: Object) -> float:
    """How long a probe fails at least until something is done about it."""
    return float(probe["periodSeconds"] * (probe["failureThreshold"] - 1) + probe["timeoutSeconds"])


def in_order(thing: object) -> object:
    """The same with every list of objects in one order: kustomize puts what a patch adds before the rest."""
    if isinstance(thing, dict):
        return {key: in_order(value) for key, value in thing.items()}
    if isinstance(thing, list):
        items = [in_order(item) for item in thing]
        return sorted(items, key=json.dumps) if all(isinstance(item, dict) for item in items) else items
    return thing
