"""What made a bundle: the versions of the tools, and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from training import card_text

ROOT: Final = Path(__file__).resolve().parent.parent
# What decides the bytes of a bundle, by paths below ROOT.
CODE: Final = ("training", "service/contract.py", str(card_text.NOTEBOOK_RUN.relative_to(ROOT)))


def tools() -> dict[str, str]:
    """The versions of Python and of the packages that compute a bundle."""
    packages = ("numpy", "onnx", "onnxruntime", "onnxscript", "scikit-learn", "torch")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def git_commit() -> str:
    """The last commit that changed the code that makes bundles.

    It ends in "-dirty" when that code has changed since. Outside a checkout it is "unknown". It is not the commit that
    is checked out, because a change elsewhere in the repository must not change bundles.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # installed inside another project's checkout
            return "unknown"
        commit = git("log", "-1", "--format=%H", "--", *CODE)
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit
