"""The software bill of materials, in CycloneDX's JSON: cyclonedx-py writes it, and here it is completed and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.utils import canonicalize_name

from release.licences import Package

Bill = dict[str, Any]


def vendored(notes: str) -> dict[str, Any]:
    """The component for Swagger UI, which is in the wheel as files: by service/api/swagger_ui/VERSION.md."""
    (version,) = re.findall(r"^\| version \| (\S+) \|", notes, re.MULTILINE)
    name = "swagger-ui-dist"
    return {
        "type": "library",
        "bom-ref": f"{name}=={version}",
        "name": name,
        "version": version,
        "licenses": [{"expression": "Apache-2.0"}],
        "purl": f"pkg:npm/{name}@{version}",
    }


def completed(bill: Bill, packages: Iterable[Package], component: dict[str, Any]) -> Bill:
    """The bill with one more component, of which the main one is made, and with the licences of the packages.

    The project's own wheels have no reference any more to the place on this machine from which they were installed.
    """
    licences = {package.name: package.licence for package in packages}
    root = bill["metadata"]["component"]["bom-ref"]
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    needs |= {root: sorted([*needs.get(root, ()), component["bom-ref"]]), component["bom-ref"]: []}
    return {
        **bill,
        "components": [*(_component(each, licences) for each in bill["components"]), component],
        "dependencies": [{"ref": ref, "dependsOn": on} if on else {"ref": ref} for ref, on in sorted(needs.items())],
    }


def problems(bill: Bill, packages: Iterable[Package]) -> Iterator[str]:
    """What a bill lacks for an environment with these packages: a sentence each."""
    listed: dict[tuple[str, str], dict[str, Any]] = {
        (canonicalize_name(component["name"]), component["version"]): component for component in bill["components"]
    }
    for package in packages:
        component = listed.get((package.name, package.version))
        if component is None:
            yield f"{package.name} {package.version} is not in it."
        elif "purl" not in component or not component.get("licenses"):
            yield f"{package.name} has no package URL or no licence."


def _component(component: dict[str, Any], licences: Mapping[str, str | None]) -> dict[str, Any]:
    name = canonicalize_name(component["name"])
    if name not in licences:
        return {key: value for key, value in component.items() if key != "externalReferences"}
    return component | {"licenses": [{"expression": licences[name]}]} if licences[name] else component
