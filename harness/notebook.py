"""Run a notebook against a service of its own: `python -m harness.notebook NOTEBOOK [OUTPUT]`.

The output is the notebook with what its cells gave: the same file, unless another one is named. It holds no times and
no paths, so that a second run changes it only where a cell gives something else.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from harness.paths import ROOT
from harness.servers import running


def run(notebook: Path, output: Path) -> None:
    """Run every cell, in the repository's folder. Raises CellExecutionError when one fails."""
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "service.log", models="") as server:
        os.environ |= {  # the kernel's too
            "VAE_URL": server.url,
            "PYTHONPATH": str(ROOT / "client"),
            "IPYTHONDIR": folder,
            "JUPYTER_RUNTIME_DIR": folder,
        }
        # Sockets in the folder, and no ports that another process could take.
        config = Config(ConnectionFileMixin={"transport": "ipc"})
        client = NotebookClient(
            document,
            config=config,
            kernel_name="python3",
            resources={"metadata": {"path": str(ROOT)}},
            record_timing=False,
            coalesce_streams=True,
            timeout=None,
        )
        client.execute()
    for cell in document.cells:
        for result in cell.get("outputs", ()):
            if "image/png" in result.get("data", {}):
                result["data"].pop("image/jpeg", None)  # Pillow gives both
    document.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(document, output)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    run(given[0], given[-1])
    print(given[-1])
