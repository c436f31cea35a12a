"""The files that the image is installed from agree with constraints.txt and pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.paths import ROOT

IMAGE = ROOT / "deploy" / "image"
NOT_IMPORTED = {"flatbuffers", "protobuf"}  # the Makefile says why
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(text: str) -> dict[str, str]:
    """What a file of requirements pins: names and versions."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def closure(roots: list[str]) -> set[str]:
    """The names of these requirements and of all that they require here, by what is installed."""
    environment = {key: str(value) for key, value in default_environment().items()}
    found: set[tuple[str, str]] = set()

    def follow(requirement: Requirement) -> None:
        for extra in ("", *requirement.extras):
            name = canonicalize_name(requirement.name)
            if (name, extra) not in found:
                found.add((name, extra))
                for text in requires(name) or []:
                    needed = Requirement(text)
                    if needed.marker is None or needed.marker.evaluate(environment | {"extra": extra}):
                        follow(needed)

    for text in roots:
        follow(Requirement(text))
    return {name for name, _ in found}


CONSTRAINTS = pinned((ROOT / "constraints.txt").read_text())


@pytest.mark.parametrize("name", ["cpu", "gpu", "build"])
def test_versions_are_those_of_the_constraints_and_have_hashes(name: str) -> None:
    text = (IMAGE / f"{name}.txt").read_text()
    versions = pinned(text)
    assert versions
    assert versions == {package: CONSTRAINTS.get(package) for package in versions}
    assert text.count(" \\\n    --hash=sha256:") >= len(versions)
    for block in re.split(r"\n(?=\S)", text.partition("requirements\n")[2]):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block


def test_the_image_has_all_that_the_service_requires_and_nothing_else() -> None:
    assert set(pinned((IMAGE / "cpu.txt").read_text())) == closure(PROJECT["project"]["dependencies"]) - NOT_IMPORTED


def test_the_image_for_gpus_differs_by_onnxruntime_and_cuda() -> None:
    cpu, gpu = (set(pinned((IMAGE / f"{name}.txt").read_text())) for name in ("cpu", "gpu"))
    assert cpu - gpu == {"onnxruntime"}
    assert "onnxruntime-gpu" in gpu - cpu
    assert all(name.startswith("nvidia-") for name in gpu - cpu - {"onnxruntime-gpu"})


def test_the_wheel_is_built_with_what_pyproject_names() -> None:
    (wanted,) = PROJECT["build-system"]["requires"]
    assert pinned((IMAGE / "build.txt").read_text()) == pinned(wanted)
