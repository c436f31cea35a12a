from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.inference import watcher
from service.inference.models_folder import Look
from service.inference.registry import Registry, RegistryOptions, open_registry
from tests.bundles import write_bundle


async def until(registry: Registry, ids: list[str]) -> None:
    """Wait until exactly these models are served."""
    async with asyncio.timeout(60):
        while [model.engine.contract.id for model in registry] != ids:
            await asyncio.sleep(0.02)


async def follow_to_a_second_version(models: Path, registry: Registry) -> None:
    """Follow the folder until it has got a second version, and that is served."""
    following = asyncio.create_task(watcher.follow(registry, 0.01))
    write_bundle(models, version=2)
    await until(registry, ["tiny@1", "tiny@2"])
    following.cancel()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def registry(models: Path) -> Iterator[Registry]:
    registry = open_registry(models, default="tiny", options=RegistryOptions("cpu", threads=1, batch=8))
    yield registry
    registry.close()


def test_new_and_removed_bundles_are_followed(models: Path, registry: Registry) -> None:
    async def scenario() -> None:
        following = asyncio.create_task(watcher.follow(registry, 0.01))
        write_bundle(models, version=2)
        await until(registry, ["tiny@1", "tiny@2"])
        shutil.rmtree(models / "tiny" / "1")
        await until(registry, ["tiny@2"])
        shutil.rmtree(models / "tiny")
        await until(registry, [])
        write_bundle(models, version=7)
        await until(registry, ["tiny@7"])
        following.cancel()

    asyncio.run(scenario())


def test_a_bundle_that_is_still_being_written_is_not_opened(
    models: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = registry.look, 0

    def growing() -> Look:
        nonlocal looks
        looks += 1
        if looks <= 5:  # at each check the file is longer than before
            with (models / "tiny" / "2" / "encoder.onnx").open("ab") as file:
                file.write(b"more")
        elif looks == 6:
            shutil.rmtree(models / "tiny" / "2")
            write_bundle(models, version=2)
        return look()

    write_bundle(models, version=2)
    monkeypatch.setattr(registry, "look", growing)

    async def scenario() -> None:
        following = asyncio.create_task(watcher.follow(registry, 0.01))
        await until(registry, ["tiny@1", "tiny@2"])
        following.cancel()

    asyncio.run(scenario())
    assert registry.refused == {}


def test_watching_goes_on_after_a_failed_check(
    models: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, broken = registry.look, [True, True]

    def failing() -> Look:
        if broken:
            broken.pop()
            raise PermissionError("not now")
        return look()

    monkeypatch.setattr(registry, "look", failing)

    asyncio.run(follow_to_a_second_version(models, registry))
    assert "not now" in caplog.text


def test_a_refresh_that_keeps_failing_is_logged_once_until_it_fails_otherwise(
    models: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refresh, reasons = registry.refresh, ["one", "one", "one", "another", "another"]

    def failing(look: Look) -> None:
        if reasons:
            raise RuntimeError(reasons.pop(0))
        refresh(look)

    monkeypatch.setattr(registry, "refresh", failing)

    asyncio.run(follow_to_a_second_version(models, registry))
    assert caplog.messages.count("Following the models folder failed; trying again.") == 2
