"""KServe's own client, in an environment of its own: `make test-kserve` makes that, and runs this."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from harness.digits import digits, encoded
from harness.paths import MODELS, ROOT
from harness.servers import Server
from service.inference.bundle import read_bundle
from service.inference.engine import Engine

PYTHON = ROOT / ".kserve" / "bin" / "python"

pytestmark = pytest.mark.skipif(not os.environ.get("REQUIRE_KSERVE"), reason="make test-kserve runs it")


def test_its_client_gets_the_right_latents_and_errors(server: Server, tmp_path: Path) -> None:
    images, picture = digits()[:3], np.frombuffer(encoded(digits()[0]), np.uint8)
    np.savez(tmp_path / "sent.npz", images=images, picture=picture)
    script = Path(__file__).with_name("kserve_client.py")
    ran = subprocess.run([PYTHON, script, server.url, tmp_path / "sent.npz"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    got = json.loads(ran.stdout)

    mu, logvar = Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1).encode(images)
    assert len(got["latents"]) == 4
    for latents in got["latents"]:
        np.testing.assert_allclose(latents["mu"], mu, rtol=0, atol=1e-5)
        np.testing.assert_allclose(latents["logvar"], logvar, rtol=0, atol=1e-5)
    assert list(got["latents"][2]) == ["logvar", "mu"]
    assert (got["live"], got["ready"], got["models"]) == (True, True, [True, False])
    assert got["id"] == "17"
    assert (got["z"], got["samples"]) == ([1, 20], [4, 28, 28])
    used = {"seed": 1, "prior": "aggregate", "temperature": 0.5, "sharpness": 1}
    assert got["parameters"] == [{"seed": 3}, used]
    (wrong_shape, nobody) = got["errors"]
    assert (wrong_shape[0], nobody[0]) == (400, 404)
    assert "/inputs/0/shape: image has the shape [-1, 28, 28]" in wrong_shape[1]
    assert "There is no model 'nobody'" in nobody[1]
