"""What is in the image, what it may do, and how large it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx2 as httpx

from harness.paths import ROOT
from tests.containers.conftest import Stack
from tests.containers.docker import inspect, run

MOST_BYTES = 200_000_000  # above the base
BASE = os.environ.get("PYTHON_IMAGE") or "python:3.11-slim"  # as docker-compose.yml has it


def test_it_is_small(image: str, measured: Callable[[str], None]) -> None:
    # The builder may keep the base to itself, out of the engine's images.
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode != 0:
        run("docker", "pull", "--quiet", BASE)
    whole, base = (inspect(name)["Size"] for name in (image, BASE))
    measured(f"image: {whole / 1e6:.0f} MB, {(whole - base) / 1e6:.0f} MB above its base")
    assert whole - base <= MOST_BYTES


def test_its_labels_say_what_it_is(image: str) -> None:
    prefix = "org.opencontainers.image."
    labels = inspect(image)["Config"]["Labels"]
    found = {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)}
    assert found.pop("description")
    assert found == {
        "title": "vae-service",
        "version": version("vae-service"),
        "revision": "of-the-test",
        "base.name": BASE,
    }


def test_a_change_of_code_changes_the_last_layer_only(
    image: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    for name in ("service", "models", "deploy/image"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "service" / "errors.py").open("a") as file:
        file.write("# changed\n")
    began = time.monotonic()
    changed = run("docker", "build", "--quiet", "--build-arg", f"PYTHON_IMAGE={BASE}", str(tmp_path)).splitlines()[-1]
    measured(f"build after a change of code: {time.monotonic() - began:.1f} s")
    before, after = (inspect(name)["RootFS"]["Layers"] for name in (image, changed))
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_it_runs_without_root_rights_and_capabilities(stack: Stack) -> None:
    facts = stack.service.shell("grep -E '^(Uid|Gid|Cap|NoNewPrivs)' /proc/1/status")
    values = dict(re.findall(r"^(\w+):\s+(.*)$", facts, re.MULTILINE))
    assert set(values.pop("Uid").split()) == set(values.pop("Gid").split()) == {"10001"}
    assert values.pop("NoNewPrivs") == "1"
    assert len(values) == 5
    assert {int(value, 16) for value in values.values()} == {0}


def test_its_file_system_and_its_models_are_read_only(stack: Stack) -> None:
    for folder in ("/", "/tmp", "/models", "/opt/service"):
        assert "Read-only file system" in stack.service.shell(f"echo > {folder}/x"), folder


def test_nothing_is_in_it_but_what_serves(stack: Stack) -> None:
    names = "'torch', 'onnx', 'pip', 'setuptools', 'training', 'vae_client', 'sympy'"
    code = f"import importlib.util as u; print([n for n in ({names}) if u.find_spec(n)])"
    assert stack.service.shell(f'python -c "{code}"') == "[]"
    assert stack.service.shell("command -v gcc make git curl") == ""


def test_the_documentation_is_in_it(stack: Stack) -> None:
    page = httpx.get(f"{stack.service.url}/docs").text
    urls = set(re.findall(r'(?:src|href)="(docs/[^"]+)"', page))
    assert len(urls) == 7
    for url in urls:
        assert httpx.get(f"{stack.service.url}/{url}").status_code == 200
    published = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert httpx.get(f"{stack.service.url}/openapi.json").json() == published


def test_its_health_is_what_readyz_says(stack: Stack) -> None:
    last = stack.service.state["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"].strip()) == (0, httpx.get(f"{stack.service.url}/readyz").text)
    assert "refused" in stack.service.shell("VAE_PORT=9 healthcheck && echo healthy")
    assert "healthy" not in stack.service.shell("VAE_PORT=9 healthcheck && echo healthy")


def test_the_log_says_which_limits_were_chosen(stack: Stack) -> None:
    log = stack.service.log()
    assert re.search(r"Requests may hold \d+ MB \(VAE_MEMORY_BYTES\): the cgroup allows 536 MB", log)
    assert "CPUs for this process, by affinity and cgroup quota: 1." in log
