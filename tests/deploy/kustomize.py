"""What kustomize makes of a folder, for the fields that deploy/kubernetes uses.

Kustomize is a Go program that pip and apt have not. Where kubectl is, which has it built in, a test compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

Object = dict[str, Any]

FIELDS: Final = {"apiVersion", "kind", "resources", "components", "patches", "images", "namespace"}

# Lists that a strategic merge patch merges by a field of their items. All others it replaces.
# kubernetes.io: "patchMergeKey" in the API's reference.
KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization. Raises ValueError for what is not known here, and for a patch of nothing."""
    return _apply(folder, [])


def containers(thing: Object) -> Iterator[Object]:
    """Every container of an object, wherever it is."""
    for key, value in thing.items():
        if key in ("containers", "initContainers"):
            yield from value
        elif isinstance(value, dict):
            yield from containers(value)


def merged(below: Any, patch: Any, key: str = "") -> Any:
    """Kubernetes' strategic merge, without its directives."""
    if isinstance(below, dict) and isinstance(patch, dict):
        return below | {name: merged(below.get(name), value, name) for name, value in patch.items()}
    if isinstance(below, list) and isinstance(patch, list) and key in KEYS:
        by = KEYS[key]
        items = {item[by]: item for item in below}
        for item in patch:
            items[item[by]] = merged(items.get(item[by], {}), item)
        return list(items.values())
    return patch


def _apply(folder: Path, objects: list[Object]) -> list[Object]:
    """The objects with what the kustomization of a folder adds to them and changes of them."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := wanted.keys() - FIELDS:
        raise ValueError(f"{folder}: {unknown} is not known here")
    objects = [*objects, *(each for name in wanted.get("resources", ()) for each in _resource(folder / name))]
    for name in wanted.get("components", ()):
        objects = _apply(folder / name, objects)
    for patch in wanted.get("patches", ()):
        objects = _patched(objects, yaml.safe_load((folder / patch["path"]).read_text()))
    objects = copy.deepcopy(objects)
    for thing in objects:
        if "namespace" in wanted:
            thing["metadata"]["namespace"] = wanted["namespace"]
        for container in containers(thing):
            container["image"] = _image(container["image"], wanted.get("images", ()))
    return objects


def _resource(path: Path) -> list[Object]:
    return build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _patched(objects: list[Object], patch: Object) -> list[Object]:
    target = _identity(patch)
    if target not in [_identity(thing) for thing in objects]:
        raise ValueError(f"a patch of {target}, which is not there")
    return [merged(thing, patch) if _identity(thing) == target else thing for thing in objects]


def _identity(thing: Object) -> tuple[str, str, str]:
    return thing["apiVersion"], thing["kind"], thing["metadata"]["name"]


def _image(image: str, changes: list[dict[str, str]]) -> str:
    name, _, tag = image.partition(":")
    for change in changes:
        if change["name"] == name:
            return f"{change.get('newName', name)}:{change.get('newTag', tag)}"
    return image
