"""The service on CUDA: the same answers as on a CPU within the documented tolerance, and no silent CPU."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from harness.digits import digits
from harness.paths import MODELS, ROOT
from harness.servers import running
from harness.untrained import write_refined, write_untrained
from service import contract as names
from service.api.error_handlers import OUR_FAULT
from service.app import create_app
from service.errors import NotOnCuda
from service.images.codec import npy_bytes
from service.inference.bundle import read_bundle
from service.inference.engine import TF32_GREY_LEVELS, TF32_TOLERANCE, Engine, Floats, Images
from service.inference.sessions import CPU, CUDA, choose_provider
from service.settings import Settings
from tests.bundles import seal, write_bundle
from tests.gpu.breaking import full
from tests.soak import mixed

SHIPPED = sorted(path.parent for path in MODELS.glob("*/*/model.json"))
SIZES = (1, 2, 3, 8, 31, 64, 200, 256, 1000)

LOST = """
import json
from fastapi.testclient import TestClient
from service.app import create_app
from service.settings import Settings
from tests.gpu.breaking import fault
import os, sys

with TestClient(create_app(Settings(provider="cuda"))) as client:
    def status(method, path, **body):
        answer = client.request(method, path, **body)
        return answer.status_code, answer.headers.get("retry-after"), answer.json()
    found = [status("POST", "/sample", json={"n": 2})]
    fault()
    found.append(status("POST", "/sample", json={"n": 2}))
    found += [status("GET", path) for path in ("/readyz", "/livez")]
    print(json.dumps(found), flush=True)
    os._exit(0)  # what libraries do at an exit would fail, too
"""


@pytest.fixture(scope="session", autouse=True)
def cuda(gpu: None) -> None:
    """An onnxruntime that has CUDA."""
    if choose_provider("auto") != CUDA:
        reason = "This onnxruntime has no CUDA: make gpu."
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a convolutional model, and one that refines its posteriors."""
    models = tmp_path_factory.mktemp("untrained")
    write_untrained(models, "conv-32")
    write_refined(models)
    return models


@pytest.fixture(params=[*SHIPPED, Path("conv-32/1"), Path("refined/1")], ids=lambda place: "/".join(place.parts[-2:]))
def folder(request: pytest.FixtureRequest, untrained: Path) -> Path:
    """Each shipped bundle, and the others."""
    place: Path = request.param
    return place if place.is_absolute() else untrained / place


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(models_dir=MODELS, provider="cuda"))) as client:
        yield client


def off(found: Floats | Images, wanted: Floats | Images) -> float:
    return float(np.abs(found.astype(np.float64) - wanted).max())


def test_answers_are_those_of_a_cpu_within_the_tolerance(folder: Path) -> None:
    bundle = read_bundle(folder)
    gpu, cpu = (Engine(bundle, provider=provider, threads=1) for provider in ("cuda", "cpu"))
    assert gpu.provider == CUDA
    for size in SIZES:
        images = np.resize(gpu.examples, (size, *gpu.contract.image_shape))
        (mu, logvar), (wanted_mu, wanted_logvar) = gpu.encode(images), cpu.encode(images)
        assert max(off(mu, wanted_mu), off(logvar, wanted_logvar)) <= names.GOLDEN_TOLERANCE, size
        assert off(gpu.decode(wanted_mu), cpu.decode(wanted_mu)) <= names.GREY_LEVEL_TOLERANCE, size


def test_the_same_run_has_the_same_bits_each_time(folder: Path) -> None:
    engine = Engine(read_bundle(folder), provider="cuda", threads=1)
    for size in (1, 5, 256):
        images = np.resize(engine.examples, (size, *engine.contract.image_shape))
        found = set()
        for _ in range(5):
            mu, logvar = engine.encode(images)
            found.add((mu.tobytes(), logvar.tobytes(), engine.decode(mu).tobytes()))
        assert len(found) == 1, size


def test_tf32_is_a_setting_whose_error_is_bounded(folder: Path) -> None:
    bundle = read_bundle(folder)
    rough, cpu = Engine(bundle, provider="cuda", threads=1, tf32=True), Engine(bundle, provider="cpu", threads=1)
    images = np.resize(cpu.examples, (256, *cpu.contract.image_shape))
    (mu, logvar), (wanted_mu, wanted_logvar) = rough.encode(images), cpu.encode(images)
    assert 0 < max(off(mu, wanted_mu), off(logvar, wanted_logvar)) <= TF32_TOLERANCE
    assert off(rough.decode(wanted_mu), cpu.decode(wanted_mu)) <= TF32_GREY_LEVELS


def test_a_graph_with_a_node_that_cuda_has_no_kernel_for_is_refused_or_runs_on_the_cpu_as_a_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_bundle(tmp_path)
    graph = onnx.load(folder / names.ENCODER_FILE)
    for node in graph.graph.node:
        node.output[:] = ["mu_before" if name == names.MU else name for name in node.output]
    graph.graph.node.extend(
        [
            onnx.helper.make_node("Sinh", ["mu_before"], ["risen"]),
            onnx.helper.make_node("Asinh", ["risen"], [names.MU], name="the_way_back"),
        ]
    )
    (folder / names.ENCODER_FILE).write_bytes(graph.SerializeToString())
    seal(folder)
    with pytest.raises(NotOnCuda, match=r"^tiny@1: CUDA has no kernel for .*Asinh \(the_way_back\)"):
        Engine(read_bundle(folder), provider="cuda", threads=1)
    assert Engine(read_bundle(folder), provider="auto", threads=1).provider == CPU
    assert "tiny@1 runs on the CPU" in caplog.text


def test_auto_says_that_it_runs_on_cuda() -> None:
    with TestClient(create_app(Settings(models_dir=MODELS, provider="auto"))) as client:
        assert {model["provider"] for model in client.get("/models").json()["models"]} == {CUDA}


def test_without_a_device_cuda_ends_in_a_sentence_and_auto_serves_on_the_cpu_with_a_warning(tmp_path: Path) -> None:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "VAE_PORT": "0", "VAE_PROVIDER": "cuda"}
    ended = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=hidden,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode != 0
    assert "CUDA cannot be had: CUDA failure 100, no CUDA-capable device is detected." in ended.stderr
    assert "Traceback" not in ended.stderr
    code = (
        "from service.app import create_app; from service.settings import Settings\n"
        "from fastapi.testclient import TestClient\n"
        "with TestClient(create_app(Settings(provider='auto'))) as client: print(client.get('/models').text)"
    )
    served = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=hidden, capture_output=True, text=True, check=False
    )
    assert served.returncode == 0, served.stderr
    assert {model["provider"] for model in json.loads(served.stdout.splitlines()[-1])["models"]} == {CPU}


def test_without_memory_a_request_gets_503_and_the_next_one_its_answer(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    # The thread of the runs has its handles of cuBLAS from its first run on. Only 1,024 rows need buffers that are new.
    assert client.post("/sample", json={"n": 1}).status_code == 200
    with full():
        answer = client.post("/sample", json={"n": 1024})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["detail"] == OUR_FAULT
        assert "the GPU has no memory left" in caplog.text
        assert client.get("/livez").status_code == 200
        assert client.post("/sample", json={"n": 1}).status_code == 200  # there are buffers for it
    assert client.post("/sample", json={"n": 1024}).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_after_the_gpu_is_lost_requests_get_503_and_both_probes_fail() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOST], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    before, after, ready, live = json.loads(ended.stdout.splitlines()[-1])
    assert before[0] == 200
    assert (after[0], after[1], after[2]["detail"]) == (503, "1", OUR_FAULT)
    assert "the GPU failed: CUDA failure 716" in ended.stderr
    assert ready[0] == 503
    assert (live[0], live[2]["reason"]) == (503, "mnist-mlp@2: the GPU does not work in this process any more.")


def test_no_answer_is_wrong_while_models_are_swapped(tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(MODELS / "mnist-mlp" / "1", models / "mnist-mlp" / "1")
    settings = {"models_dir": models, "provider": "cuda", "default_model": "mnist-mlp@1", "watch_seconds": 0.1}
    with running(tmp_path / "log", **settings, deadline_ms=600_000) as server:

        async def swap(mixing: asyncio.Task[mixed.Report]) -> int:
            swaps = 0
            async with httpx.AsyncClient(base_url=server.url) as http:
                while not mixing.done() or swaps < 2:
                    await asyncio.to_thread(
                        shutil.copytree, MODELS / "mnist-resmlp" / "1", models / "mnist-resmlp" / "1"
                    )
                    await served(http, "mnist-resmlp", True)
                    await asyncio.to_thread(shutil.rmtree, models / "mnist-resmlp")
                    await served(http, "mnist-resmlp", False)
                    swaps += 1
            return swaps

        async def both() -> tuple[mixed.Report, int]:
            mixing = asyncio.create_task(
                mixed.run(server.url, server.process.pid, requests=150, most=1024, seed=5, exact=False)
            )
            swaps = await swap(mixing)
            return await mixing, swaps

        report, swaps = asyncio.run(both())
    assert report.wrong == []
    assert report.answers == 150 * mixed.CLIENTS
    assert swaps >= 2


async def served(http: httpx.AsyncClient, name: str, wanted: bool) -> None:
    """Wait until a model is served, or is not."""
    while any(model["name"] == name for model in (await http.get("/models")).json()["models"]) is not wanted:
        await asyncio.sleep(0.01)


def test_digits_over_http_are_those_of_the_cpu(client: TestClient) -> None:
    images = digits()[:100]
    cpu = Engine(read_bundle(MODELS / "mnist-mlp" / "2"), provider="cpu", threads=1)
    answer = client.post("/encode", content=npy_bytes(images), headers={"content-type": "application/x-npy"}).json()
    assert off(np.array(answer["mu"], np.float32), cpu.encode(images)[0]) <= names.GOLDEN_TOLERANCE
