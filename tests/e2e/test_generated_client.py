"""A client that openapi-python-client generates from the served document works as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from harness.paths import DIGIT, MODELS
from harness.servers import Server
from service.images.codec import images_from_pictures
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from tests.e2e.conftest import KEY

# The generator knows no picture types. The first option has it send a PNG as the bytes that it is.
CONFIG = {"content_type_overrides": {"image/png": "application/octet-stream"}, "post_hooks": []}


def generate(document_url: str, folder: Path) -> None:
    """Write the package `generated_client` into the folder. Warnings of Python are errors."""
    config = folder / "config.json"
    config.write_text(json.dumps(CONFIG))
    options = ["--meta", "none", "--config", str(config), "--output-path", str(folder / "generated_client")]
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "openapi_python_client",
        "generate",
        "--url",
        document_url,
        *options,
    ]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_generated_client_gets_the_right_latents(locked_server: Server, tmp_path: Path) -> None:
    generate(f"{locked_server.url}/openapi.json", tmp_path)
    script = Path(__file__).with_name("use_generated_client.py")
    used = subprocess.run(
        [sys.executable, "-W", "error", script, locked_server.url, KEY],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert used.returncode == 0, used.stderr
    got = json.loads(used.stdout)

    images = images_from_pictures([DIGIT.read_bytes()], (28, 28), preprocess="none", background=0, max_pixels=784)
    mu, _ = Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1).encode(images)
    assert len(got["mu"]) == 3
    for each in [*got["mu"], got["reconstructed_mu"]]:
        np.testing.assert_array_equal(np.array(each, np.float32), np.repeat(mu, len(each), 0))
    assert len(got["z"]) == 5
    assert all(z == got["z"][0] for z in got["z"])
    assert got["seeds"] == [3] * 5
    assert got["refused"] == [401, 422, 404]
    assert got["pointers"] == ["/images/0"]
    assert len(got["mse"]) == 2
    assert len(got["typicality"]) == 3
    assert all(each == got["typicality"][0] and each[0] > 0.01 for each in got["typicality"])
    assert got["draws"] == [5, 2, 1]
    assert got["samples"] == [3, 20]
    assert got["walks"] == [3, 3, 15, 4, 14]
    assert (got["prior"], got["default"], got["latent_dim"]) == ("aggregate", "mnist-mlp@2", 20)
    assert got["card"] == (MODELS / "mnist-mlp" / "2" / "README.md").read_text()
    assert got["embedding"] == got["mu"][0][0]
    assert "mnist-mlp@2" in got["short"]
    assert got["openai"] == got["short"]
    assert (got["live"], got["ready"]) == (True, True)
    assert got["metrics"].startswith("# HELP")
