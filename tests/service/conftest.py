"""Test clients of real applications: one with the shipped models, others with small random bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from fastapi.testclient import TestClient

from harness.paths import MODELS
from service.app import create_app
from service.inference.sessions import CPU, CUDA
from service.settings import Settings
from tests.bundles import write_bundle
from tests.service.fake_cuda import FakeCuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[FakeCuda]:
    """Make onnxruntime claim to have CUDA. The list collects every session that it opens."""
    opened: list[FakeCuda] = []
    real = ort.InferenceSession

    def open_session(graph: bytes, options: object, **asked: Any) -> FakeCuda:
        opened.append(FakeCuda(real(graph, options, providers=[CPU]), asked))
        return opened[-1]

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", open_session)
    return opened


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The application with the shipped models and default settings."""
    with TestClient(create_app(Settings(models_dir=MODELS))) as client:
        yield client


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundles: tiny@1 and tiny@2, grey 6x4 with 3 latents, and colour@1, 6x4x3."""
    models = tmp_path_factory.mktemp("models")
    write_bundle(models)
    write_bundle(models, version=2, seed=2)
    write_bundle(models, "colour", image_shape=(6, 4, 3), background=255)
    return models


@pytest.fixture
def start(tiny_models: Path) -> Iterator[Callable[..., TestClient]]:
    """A function that starts an application with the tiny bundles and the given settings."""
    with ExitStack() as stack:

        def start(models_dir: Path = tiny_models, **settings: Any) -> TestClient:
            app = create_app(Settings(models_dir=models_dir, default_model="tiny", **settings))
            return stack.enter_context(TestClient(app))

        yield start
