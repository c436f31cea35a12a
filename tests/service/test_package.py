"""What pip installs of this project: the image installs it so."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from harness.paths import ROOT


def test_the_wheel_holds_every_module_and_every_file_of_the_service(tmp_path: Path) -> None:
    """From a copy of the files that the Dockerfile copies; pip leaves its build folder beside them."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "service", source / "service", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *offline, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    expected = {str(file.relative_to(source)) for file in (source / "service").rglob("*") if file.is_file()}
    assert "service/api/swagger_ui/swagger-ui-bundle.js.gz" in expected
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("service/")}
    assert packed == expected
