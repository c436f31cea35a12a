"""`python -m bench.gpu`: what a GPU does for the service; Markdown on standard output. Needs `make gpu` and wrk.

    python -m bench.gpu [--only ways,bits,threads,first-runs,serving] [--seconds 1]

It takes two to three minutes. The models are shipped bundles, one of them with refined posteriors, and networks
that are not trained: a small and a large convolutional one, and a wide one.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnxruntime as ort

from bench.gpu import serving, tables
from bench.machine import machine
from harness.paths import MODELS
from harness.untrained import UNTRAINED, write_refined, write_untrained
from service.inference.bundle import Bundle, read_bundle
from service.inference.sessions import CUDA

SHIPPED: Final = (("mnist-mlp", "2"), ("mnist-resmlp", "1"))
PARTS: Final = ("ways", "bits", "threads", "first-runs", "serving")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="What a GPU does for the service.")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas (default: all)")
    parser.add_argument("--seconds", type=int, default=1, help="of each load (default: 1)")
    options = parser.parse_args()
    if CUDA not in ort.get_available_providers() or shutil.which("nvidia-smi") is None:
        sys.exit("The benchmark needs an NVIDIA GPU with its driver, and the CUDA build of onnxruntime: make gpu.")
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    print(f"{gpu}; {machine()}; onnxruntime {ort.__version__}\n")
    ort.preload_dlls()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write_untrained(models)
        write_refined(models)
        for name, version in SHIPPED:
            shutil.copytree(MODELS / name / version, models / name / version)
        bundles = {path.parent.parent.name: read_bundle(path.parent) for path in sorted(models.glob("*/*/model.json"))}
        for part in options.only.split(","):
            print(f"## {part}\n", flush=True)
            try:
                for line in lines(part, bundles, models, options.seconds):
                    print(line, flush=True)
            except Exception:  # the other parts are still worth having
                traceback.print_exc()
            print(flush=True)


def lines(part: str, bundles: dict[str, Bundle], models: Path, seconds: int) -> Iterator[str]:
    """The lines of a part's table."""
    if part == "ways":
        yield from tables.of_ways(bundles)
    elif part == "bits":
        yield from tables.of_bits(bundles)
    elif part == "threads":
        yield from tables.of_threads(bundles)
    elif part == "first-runs":
        yield from tables.of_first_runs(bundles)
    else:
        yield from served(models, seconds)


def served(models: Path, seconds: int) -> Iterator[str]:
    """The table of the service."""
    yield serving.HEAD
    everything = tuple(serving.requests())
    few = tuple(name for name in everything if name.endswith((" 1", " 256")) and "npy" in name)
    for model, workers, wanted in (
        ("mnist-mlp", 1, everything),
        ("mnist-mlp", 4, few),
        ("refined", 1, few),
        *((str(numbers["name"]), 1, few) for numbers in UNTRAINED if numbers["name"] != "conv-128"),
    ):
        for provider in ("cpu", "cuda"):
            with contextlib.suppress(BrokenPipeError):
                yield from serving.rows(models, model, provider, workers, seconds, wanted)


if __name__ == "__main__":
    main()
