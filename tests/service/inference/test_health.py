from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import DeviceFailed, RuntimeFailed
from service.inference.engine import Engine
from service.inference.health import Health
from service.inference.registry import Registry, RegistryOptions, open_registry
from tests.bundles import write_bundle


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    write_bundle(tmp_path)
    registry = open_registry(tmp_path, default="tiny", options=RegistryOptions("cpu", threads=1, batch=8))
    yield registry
    registry.close()


@pytest.fixture
def health(registry: Registry) -> Health:
    return Health(registry, stall_seconds=30)


def unready(health: Health) -> str | None:
    return asyncio.run(health.unready())


def break_engine(monkeypatch: pytest.MonkeyPatch, error: RuntimeFailed | None = None) -> None:
    def fail(*_: object) -> None:
        raise error or RuntimeFailed("tiny@1: onnxruntime failed: a cable was pulled")

    monkeypatch.setattr(Engine, "_run", fail)


def test_a_working_service_is_ready(health: Health) -> None:
    assert unready(health) is None
    assert health.stuck() is None


def test_a_draining_service_is_not_ready(health: Health) -> None:
    health.draining = True
    assert unready(health) == "Draining: the process has been asked to stop."


def test_a_default_model_that_was_removed_makes_it_not_ready(
    health: Health, registry: Registry, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "tiny")
    registry.refresh()
    assert unready(health) == "The default model is not served."
    write_bundle(tmp_path, version=2)
    registry.refresh()
    assert unready(health) is None


def test_a_failing_engine_is_not_ready_until_a_real_run_of_it_succeeds(
    health: Health, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry.default.batcher.status.failure = RuntimeFailed("a failed run")
    with monkeypatch.context() as broken:
        break_engine(broken)
        for _ in range(2):
            assert unready(health) == "tiny@1: the last run failed, and so does the self-test."
    assert "a cable was pulled" in caplog.text
    assert unready(health) is None
    assert registry.default.batcher.status.failure is None


def test_a_gpu_that_is_lost_makes_it_not_ready_and_not_alive_until_it_is_started_again(
    health: Health, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = DeviceFailed("tiny@1: the GPU failed: CUDA failure 716, misaligned address.", lost=True)
    registry.default.batcher.status.failure = lost
    with monkeypatch.context() as broken:
        break_engine(broken, lost)
        assert unready(health) == "tiny@1: the last run failed, and so does the self-test."
    sentence = "tiny@1: the GPU does not work in this process any more."
    assert health.stuck() == unready(health) == sentence


def test_a_gpu_without_memory_makes_it_not_ready_until_there_is_some_and_leaves_it_alive(
    health: Health, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = DeviceFailed("tiny@1: the GPU failed: the GPU has no memory left.", lost=False)
    registry.default.batcher.status.failure = full
    with monkeypatch.context() as broken:
        break_engine(broken, full)
        assert unready(health) == "tiny@1: the last run failed, and so does the self-test."
        assert health.stuck() is None
    assert unready(health) is None


def test_an_engine_that_failed_on_one_input_is_ready_when_its_self_test_passes(
    health: Health, registry: Registry
) -> None:
    registry.default.batcher.status.failure = RuntimeFailed("an odd input")
    assert unready(health) is None


def test_a_probe_does_not_wait_for_a_self_test_that_hangs(
    health: Health, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.inference.health._PROBE_SECONDS", 0.05)
    may_end = threading.Event()
    runs: list[float] = []

    def hang(_: Engine) -> None:
        runs.append(time.perf_counter())
        assert may_end.wait(60)

    monkeypatch.setattr(Engine, "check", hang)
    registry.default.batcher.status.failure = RuntimeFailed("a failed run")

    async def probes() -> list[str | None]:
        slow = await asyncio.gather(*(health.unready() for _ in range(3)))
        assert health.stuck() is None
        health.stall_seconds = 0  # /livez sees a self-test that does not end, as it sees a run
        assert health.stuck() == "tiny@1: a run has not ended for more than 0 s."
        health.stall_seconds = 30
        may_end.set()
        async with asyncio.timeout(60):
            while await health.unready() is not None:
                await asyncio.sleep(0.01)
        return list(slow)

    assert set(asyncio.run(probes())) == {"tiny@1: the self-test after a failed run is not done yet."}
    assert len(runs) == 1


def test_a_run_that_does_not_end_is_stuck_and_not_ready(registry: Registry) -> None:
    status = registry.default.batcher.status
    health = Health(registry, stall_seconds=5000)
    status.since = time.perf_counter() - 4000
    assert health.stuck() is None
    status.since = time.perf_counter() - 6000
    assert health.stuck() == unready(health) == "tiny@1: a run has not ended for more than 5000 s."
