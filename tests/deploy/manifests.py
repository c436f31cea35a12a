"""The objects of deploy/kubernetes as a cluster would get them, and the schemas that they must fit."""

from __future__ import annotations

import functools
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

from harness.paths import DATA, ROOT
from tests.deploy.kustomize import Object

FOLDER: Final = ROOT / "deploy" / "kubernetes"
COMPONENTS: Final = sorted(path.name for path in (FOLDER / "components").iterdir())

# The base alone, with each component, and with all that go together: models come from one place only.
COMBINATIONS: Final = {
    "base": (),
    **{name: (name,) for name in COMPONENTS},
    "all with a volume": tuple(name for name in COMPONENTS if name != "models-init"),
    "all with an init container": tuple(name for name in COMPONENTS if name != "models-volume"),
}

# The oldest and the newest version of Kubernetes that docs/kubernetes.md names.
VERSIONS: Final = ("1.30", "1.37")

# Kinds of other projects, by their group.
CUSTOM: Final = {"monitoring.coreos.com": "monitoring", "serving.kserve.io": "kserve"}


def written(folder: Path, *components: str) -> Path:
    """A copy of the manifests in `folder`, and in it a kustomization of the base with components: its path."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    place = folder / "overlays" / "combined"
    place.mkdir(parents=True)
    wanted = {"resources": ["../../base"], "components": [f"../../components/{name}" for name in components]}
    (place / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    return place


def only(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    (found,) = (thing for thing in objects if thing["kind"] == kind)
    return found


def pod(objects: list[Object]) -> Object:
    """The pod's template of the Deployment."""
    template: Object = only(objects, "Deployment")["spec"]["template"]
    return template


def container(spec: Object, name: str = "vae-service") -> Object:
    """A container of a pod."""
    (found,) = (each for each in spec["containers"] if each["name"] == name)
    return dict(found)


def environment(container: Object) -> dict[str, str]:
    """The variables of a container."""
    return {variable["name"]: variable["value"] for variable in container.get("env", ())}


def probes(container: Object) -> dict[str, Object]:
    """The probes of a container, by their kind."""
    return {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}


def check(thing: Object) -> None:
    """Raise an error when the object does not fit its schema, or has a field that the schema has not."""
    group, _, version = thing["apiVersion"].rpartition("/")
    if group in CUSTOM:
        _custom(f"{CUSTOM[group]}-{thing['kind']}-{version}").validate(thing)
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(thing, version, strict=True)


@functools.cache
def _custom(name: str) -> Any:
    schema = json.loads(gzip.decompress((DATA / "schemas" / f"{name}.schema.json.gz").read_bytes()))
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    """The schema, with other fields than the named ones forbidden: a cluster would drop them, with a warning at best.

    Kubernetes writes `(?i)` into the middle of patterns, which Python takes at their beginning only.
    """
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("pattern"), str):
        closed["pattern"] = re.sub(r"^\^\(\?i\)", "(?i)^", closed["pattern"])
    if isinstance(closed.get("properties"), dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
