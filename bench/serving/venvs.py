"""An environment for each peer, made once from requirements/NAME.txt and used again until that file changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parent / "peers" / "requirements"

# PyTriton's stub is linked with Debian's libpython and fails under another build's standard library.
_INTERPRETERS: Final = {"pytriton": "/usr/bin/python3"}


class Unavailable(Exception):
    """A peer cannot be had; the message is one sentence that says why."""


def python(name: str, folder: Path) -> str:
    """The interpreter of environment `name` under `folder`, made now if it is not there. Raises Unavailable."""
    requirements, venv = REQUIREMENTS / f"{name}.txt", folder / name
    interpreter, stamp = venv / "bin" / "python", venv / "made-from.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(interpreter.absolute())
    print(f"Installing {name} into {venv} (once) ...", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    _do([_INTERPRETERS.get(name, sys.executable), "-m", "venv", str(venv)])
    # Everything is pinned, so pip has nothing to resolve. Some pins are a little older than a package asks for.
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _do([*pip, "--no-deps", "--requirement", str(requirements)])
    stamp.write_text(wanted)
    return str(interpreter.absolute())


def versions(name: str) -> dict[str, str]:
    """The versions in an environment, as its file pins them."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    pins = (line.partition("==") for line in lines if "==" in line)
    return {package.lower(): version.split()[0] for package, _, version in pins}


def _do(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        text = said if isinstance(said, str) else said.decode(errors="replace")
        problems = [line for line in text.splitlines() if "ERROR" in line] or text.splitlines() or ["no reason given"]
        raise Unavailable(f"Installation failed: {problems[-1].strip()[:300]}") from error
