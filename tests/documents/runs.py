"""Run the blocks of a document, and compare what they print with what the document says that they print.

Its blocks of commands are run first, in one shell; then its blocks of Python, in one process, each with names of its
own. All have one folder, which has the files of the checkout that documents name.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from harness.digits import digits
from harness.paths import DATA, ROOT
from harness.photos import photo
from harness.servers import Server
from tests.readme import Block, fenced

END: Final = "\0"  # printed after each block

RUNNER: Final = f"""
import sys
for text in sys.argv[1:]:
    exec(compile(text, "a block", "exec"), {{"__name__": "__main__"}})
    print({END!r}, end="", flush=True)
"""

MORE: Final = "..."  # at the end of a text or a list in JSON: it goes on


@dataclass(frozen=True)
class Run:
    """A document that was run: its blocks with what they printed, and the folder with what they wrote."""

    printed: list[tuple[Block, str]]
    folder: Path

    def of(self, language: str) -> list[str]:
        """What the blocks of a language printed."""
        return [text for block, text in self.printed if block.language == language]


def prepare(folder: Path) -> Path:
    """Put into a folder what the documents name. Gives the folder."""
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "docs" / "latent-space").mkdir(parents=True)
    (folder / "bin").mkdir()
    vae = folder / "bin" / "vae"
    vae.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m vae_client "$@"\n')
    vae.chmod(0o755)
    for name in ("digit.png", "two.png"):
        (folder / name).write_bytes((DATA / name).read_bytes())
    (folder / "notes.txt").write_text("no picture")
    (folder / "photo.jpg").write_bytes(photo(digits()[0], seed=3))
    # A problem of the service ends a block as a failed command does, unless the document shows it.
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return folder


def run(document: Path, folder: Path, server: Server) -> Run:
    """Run every block of a document that is to be run. Raises AssertionError with what a block that fails printed."""
    every = fenced(document)
    shell = [block for block in every if block.language == "sh" and not block.reason]
    python = [block for block in every if block.language == "python" and not block.reason]
    script = "".join(f"{_kept_going(block, every)}printf '\\0'\n" for block in shell)
    done: list[tuple[Block, str]] = []
    if shell:
        done += _printed(shell, ["bash", "-euo", "pipefail", "-c", _here(script, server)], folder, server)
    if python:
        texts = [_here(block.text, server) for block in python]
        done += _printed(python, [sys.executable, "-W", "error", "-c", RUNNER, *texts], folder, server)
    return Run(sorted(done, key=lambda pair: pair[0].line), folder)


def answers(document: Path) -> list[tuple[Block, Block]]:
    """Each block that is run and what the document says that it prints, in the block of JSON or text below it."""
    every = fenced(document)
    shown = [block for block in every if block.language in ("json", "text") and not block.reason]
    above = {below: block for block, below in pairwise(every)}
    for block in shown:
        source = above.get(block)
        assert source is not None, f"{document.name}:{block.line} shows the answer of no block"
        assert source.language in ("sh", "python"), f"{document.name}:{block.line} shows the answer of no block"
        assert not source.reason, f"{document.name}:{block.line} shows the answer of a block that is not run"
    return [(above[block], block) for block in shown]


def agrees(wanted: object, found: object) -> bool:
    """Whether JSON is what a document says. `...` ends what is shortened; numbers agree to a thousandth."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(agrees(wanted[name], found[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        if wanted[-1:] == [MORE]:
            wanted, found = wanted[:-1], found[: len(wanted) - 1]
        return len(wanted) == len(found) and all(map(agrees, wanted, found))
    if isinstance(wanted, str) and isinstance(found, str) and wanted.endswith(MORE):
        return found.startswith(wanted.removesuffix(MORE))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(wanted, found, rel_tol=1e-3, abs_tol=1e-3)
    return type(wanted) is type(found) and wanted == found


def is_shown(wanted: Block, printed: str) -> bool:
    """Whether a block printed what the document says."""
    return agrees(json.loads(wanted.text), json.loads(printed)) if wanted.language == "json" else printed == wanted.text


def _kept_going(block: Block, every: list[Block]) -> str:
    """The text of a block of commands. If the document shows a problem below it, curl's status does not end the run."""
    after = every[every.index(block) + 1 : every.index(block) + 2]
    return f"{{ {block.text}}} || true\n" if after and '"status":' in after[0].text else block.text


def _here(text: str, server: Server) -> str:
    """A text with this server's address and this interpreter."""
    for host in ("localhost", "127.0.0.1"):
        text = text.replace(f"{host}:8000", f"{host}:{server.port}")
    return text.replace(".venv/bin/python", sys.executable)


def _printed(blocks: list[Block], command: list[str], folder: Path, server: Server) -> list[tuple[Block, str]]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("VAE_")}
    environment = own | {
        "PATH": f"{folder / 'bin'}:{own['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
        "CURL_HOME": str(folder),
        "VAE_URL": server.url,
    }
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    *printed, rest = ran.stdout.split(END)
    if ran.returncode != 0:
        raise AssertionError(f"Line {blocks[len(printed)].line}: {rest}\n{ran.stderr}")
    return list(zip(blocks, printed, strict=True))
