"""What pip installs of the client: it works where nothing of the service is."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.paths import ROOT

LEFT_OVERS = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a copy of the distribution; pip leaves its build folder beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT / "client", folder / "client", ignore=LEFT_OVERS)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("vae_client-*.whl")
    return wheel


def test_it_holds_every_module_and_says_that_it_is_typed(wheel: Path) -> None:
    package = ROOT / "client" / "vae_client"
    expected = {f"vae_client/{file.relative_to(package)}" for file in package.rglob("*.py")} | {"vae_client/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("vae_client/")}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "vae = vae_client.cli.main:run" in archive.read(entry_points).decode()
    assert packed == expected


def test_it_works_without_the_service(wheel: Path, tmp_path: Path) -> None:
    """And loads nothing of what is installed beside it."""
    script = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "from vae_client.cli.main import main\n"
        "print(main(['health', '--url', 'http://127.0.0.1:1']))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    status, modules = ran.stdout.splitlines()
    assert status == "4"
    loaded = set(modules.split())
    assert {"vae_client", "httpx", "numpy", "PIL"} <= loaded
    assert not loaded & {"service", "training", "torch", "onnxruntime", "pydantic", "fastapi", "pyarrow", "harness"}


def test_it_imports_only_what_its_dependencies_name() -> None:
    found = set()
    for file in (ROOT / "client" / "vae_client").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    assert found - sys.stdlib_module_names - {"vae_client"} == {"PIL", "httpx", "numpy", "rich"}
