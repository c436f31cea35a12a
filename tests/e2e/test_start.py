"""Starts of a real `python -m service`, and its messages when it cannot start."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image

from harness.paths import MODELS, ROOT
from harness.servers import Server

# A bug that only workers have: they cannot make their application.
BROKEN_WORKER = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    import service.app
    service.app.Health = None
"""


def environment(**variables: object) -> dict[str, str]:
    """This process's environment with other variables, and with a port that the system chooses unless they name one."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("VAE_")}
    return others | {name: str(value) for name, value in {"VAE_PORT": 0, **variables}.items()}


def start(*arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a service that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def log_of_failure(**variables: object) -> str:
    """The log of a service that cannot start."""
    ended = start(**variables)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" not in ended.stderr
    return ended.stderr


def only_reason(log: str) -> str:
    """What the log says in its one line of the level CRITICAL."""
    (reason,) = re.findall(r"^[-\d]+T[:\d]+\.\d{3}Z CRITICAL service: (.*)$", log, re.MULTILINE)
    return str(reason)


class TestCommandLine:
    """What `python -m service` takes: --help and --version."""

    def test_help_says_what_can_be_set_even_where_something_is_set_wrong(self) -> None:
        ended = start("--help", VAE_PORT="nonsense")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "VAE_MODELS_DIR=models" in ended.stdout

    def test_an_argument_that_there_is_not(self) -> None:
        ended = start("--port", "9000")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert only_reason(ended.stderr).endswith("set VAE_PORT=9000.")


class TestFailures:
    """What keeps the service from starting is one line for each reason, and exit status 1."""

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize(
        ("variables", "reason"),
        [
            ({"VAE_MODELS_DIR": "nowhere"}, f"There is no folder {ROOT / 'nowhere'}: set VAE_MODELS_DIR"),
            ({"VAE_MODELS": "mnist-resmlp"}, "VAE_MODELS leaves out the default model mnist-mlp: add it there"),
            ({"VAE_API_KEYS_FILE": "/dev/null"}, "The file of API keys /dev/null holds no key: "),
            ({"VAE_HOST": "192.0.2.1"}, "Cannot listen on http://192.0.2.1:0 (Cannot assign requested address): "),
            ({"VAE_PORT": "http"}, "VAE_PORT=http: Input should be a valid integer"),
        ],
    )
    def test_one_line_however_many_workers(self, variables: dict[str, str], reason: str, workers: int) -> None:
        log = log_of_failure(VAE_WORKERS=workers, **variables)
        assert only_reason(log).startswith(reason)
        assert len(log.splitlines()) == 1

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_port_that_is_in_use(self, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            log = log_of_failure(VAE_WORKERS=workers, VAE_PORT=port)
        assert only_reason(log).startswith(f"Cannot listen on http://127.0.0.1:{port} (Address already in use): ")
        assert len(log.splitlines()) == 1

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_model_that_was_tampered_with(self, tmp_path: Path, workers: int) -> None:
        shutil.copytree(MODELS / "mnist-mlp" / "2", tmp_path / "mnist-mlp" / "2")
        with (tmp_path / "mnist-mlp" / "2" / "decoder.onnx").open("ab") as file:
            file.write(b"\0")
        reason = only_reason(log_of_failure(VAE_MODELS_DIR=tmp_path, VAE_WORKERS=workers))
        assert reason.startswith("The default model mnist-mlp cannot be served: mnist-mlp/2: decoder.onnx is not the")

    def test_cuda_that_cannot_be_had(self) -> None:
        assert "CUDA" in only_reason(log_of_failure(VAE_PROVIDER="CUDA"))

    def test_every_wrong_setting_is_a_line_of_json_where_json_is_asked_for(self) -> None:
        log = log_of_failure(
            VAE_PORT="http", VAE_QUEUE=0, VAE_CORS_ORIGINS="https://here.example/", VAE_LOG_FORMAT="JSON"
        )
        lines = [json.loads(line) for line in log.splitlines()]
        assert {(line["level"], line["logger"]) for line in lines} == {("critical", "service")}
        assert [line["message"].partition("=")[0] for line in lines] == ["VAE_PORT", "VAE_QUEUE", "VAE_CORS_ORIGINS"]

    def test_a_bug_in_the_workers_is_one_line_with_its_traceback(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(BROKEN_WORKER)
        ended = start(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", VAE_WORKERS=2, VAE_LOG_FORMAT="json")
        assert ended.returncode == 1
        lines = [json.loads(line) for line in ended.stderr.splitlines()]
        (failure,) = [line for line in lines if line["level"] == "critical"]
        assert failure["exception"].endswith("TypeError: 'NoneType' object is not callable")


def test_the_log_says_the_port_that_the_system_chose(serve: Callable[..., Server]) -> None:
    server = serve(port=0, workers=2)
    assert f" running on http://127.0.0.1:{server.port} (" in server.log.read_text()


def test_a_misspelt_setting_is_pointed_out(serve: Callable[..., Server]) -> None:
    assert "VAE_MAX_BACH is set, but there is no such setting." in serve(max_bach=7).log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_pillows_warnings_are_lines_of_the_log(serve: Callable[..., Server], workers: int) -> None:
    file = io.BytesIO()  # its EXIF data ends too soon: Pillow reads the picture, but warns
    Image.new("L", (28, 28)).save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03")
    server = serve(workers=workers, log_format="json")
    for _ in range(20):
        answer = httpx.post(f"{server.url}/encode", content=file.getvalue(), headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 200
    server.process.terminate()
    assert server.process.wait(60) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    warnings = [line["message"] for line in lines if line["logger"] == "py.warnings"]
    assert 1 <= len(warnings) <= workers  # one in each worker that read such a picture
    assert warnings[0].startswith("UserWarning: Corrupt EXIF data.")
