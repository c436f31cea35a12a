"""The image and the compose file on a real engine: `make test-containers`. Without an engine these tests fail."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.digits import decoded
from harness.paths import ROOT
from tests.readme import curl_lines


def run(*command: str, cwd: Path = ROOT, check: bool = True) -> str:
    """Run a command; give what it printed, or fail with it."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if check and ended.returncode != 0:
        pytest.fail(f"{' '.join(command)}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def up() -> Iterator[None]:
    """The service as `docker compose up` starts it, healthy."""
    run("docker", "compose", "up", "--build", "--wait", "--wait-timeout", "120", "--detach")
    yield
    run("docker", "compose", "down", "--timeout", "30")


def in_container(code: str, *, check: bool = True) -> str:
    """Run Python in the running container."""
    return run("docker", "compose", "exec", "-T", "vae", "python", "-c", code, check=check).strip()


@pytest.mark.usefixtures("up")
class TestCompose:
    def test_the_readmes_curl_lines_work_as_printed(self, tmp_path: Path) -> None:
        (tmp_path / "tests").symlink_to(ROOT / "tests")
        printed = [run("bash", "-c", f"{line} --fail --silent", cwd=tmp_path) for line in curl_lines()]
        assert np.shape(json.loads(printed[0])["mu"]) == (1, 20)
        assert decoded((tmp_path / "reconstruction.png").read_bytes()).shape == (28, 28)
        assert decoded((tmp_path / "samples.png").read_bytes()).shape == (8 * 28, 8 * 28)

    def test_the_documentation_is_in_the_image(self) -> None:
        page = run("curl", "--fail", "--silent", "localhost:8000/docs")
        urls = re.findall(r'(?:src|href)="(docs/[^"]+)"', page)
        assert len(urls) == 4
        for url in urls:
            run("curl", "--fail", "--silent", "--output", "/dev/null", f"localhost:8000/{url}")

    def test_it_does_not_run_as_root(self) -> None:
        assert in_container("import os; print(os.getuid())") == "10001"

    def test_its_file_system_and_its_models_are_read_only(self) -> None:
        for folder in ("/", "/tmp", "/models"):
            said = in_container(f"open('{folder}/x', 'w')", check=False)
            assert "Read-only file system" in said, folder

    def test_neither_torch_nor_build_tools_are_in_it(self) -> None:
        names = "'torch', 'onnx', 'pip', 'setuptools', 'training'"
        assert in_container(f"import importlib.util as u; print([n for n in ({names}) if u.find_spec(n)])") == "[]"
        assert in_container("import shutil; print(shutil.which('gcc'), shutil.which('make'))") == "None None"

    def test_it_serves_the_mounted_models(self) -> None:
        listed = json.loads(run("curl", "--fail", "--silent", "localhost:8000/models"))
        assert listed["default"] == "mnist-mlp@2"
        assert listed["refused"] == {}

    def test_stopping_it_is_a_clean_exit(self) -> None:
        """The last of the class: SIGTERM, and the process ends by itself with status 0, well before it is killed."""
        container = run("docker", "compose", "ps", "--quiet", "vae").strip()
        run("docker", "compose", "stop", "--timeout", "20")
        assert run("docker", "inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"


def test_the_image_alone_serves_its_own_models() -> None:
    """Without compose and without a mount: the shipped models are in the image."""
    run("docker", "compose", "build")
    container = run("docker", "run", "--detach", "--read-only", "--cap-drop=ALL", "vae-service").strip()
    try:
        health = "{{.State.Health.Status}}"
        for _ in range(300):
            status = run("docker", "inspect", "--format", health, container).strip()
            if status != "starting":
                break
        assert status == "healthy"
    finally:
        run("docker", "rm", "--force", container)
