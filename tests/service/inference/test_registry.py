from __future__ import annotations

import asyncio
import gc
import shutil
import threading
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from service.errors import BundleRefused, CannotStart, Unknown
from service.inference.autoencoder import Autoencoder
from service.inference.engine import Engine, Floats, Images
from service.inference.job import Job
from service.inference.registry import Registry, RegistryOptions, open_registry
from tests.bundles import seal, write_bundle


def opened(models: Path, default: str = "tiny") -> Registry:
    return open_registry(models, default=default, options=RegistryOptions("cpu", threads=1, batch=8))


@pytest.mark.parametrize(
    ("reference", "found"),
    [(None, "tiny@2"), ("tiny", "tiny@2"), ("tiny@1", "tiny@1"), ("tiny@2", "tiny@2"), ("colour", "colour@1")],
)
def test_a_name_means_its_highest_version(tiny_models: Path, reference: str | None, found: str) -> None:
    assert opened(tiny_models).find(reference).autoencoder.contract.id == found


@pytest.mark.parametrize(
    "reference", ["", "nobody", "tiny@3", "tiny@0", "tiny@01", "tiny@", "@1", "tiny@1@1", "../tiny", "TINY", "x" * 1000]
)
def test_what_is_not_served_is_unknown(tiny_models: Path, reference: str) -> None:
    with pytest.raises(Unknown):
        opened(tiny_models).find(reference)


def test_versions_are_compared_as_numbers(tmp_path: Path) -> None:
    write_bundle(tmp_path, version=9)
    write_bundle(tmp_path, version=10)
    assert opened(tmp_path).default.autoencoder.contract.version == 10


def test_a_refused_version_leaves_the_highest_that_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, version=2) / "encoder.onnx").write_bytes(b"")
    registry = opened(tmp_path)
    assert registry.default.autoencoder.contract.id == "tiny@1"
    assert list(registry.refused) == ["tiny/2"]
    assert "encoder.onnx is not the file" in caplog.text


def test_a_slow_encoder_runs_in_the_thread_and_its_quick_decoder_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MagicMock(return_value=0.0)  # an encoder of 2 ms an image, by the clock that paces are measured with
    monkeypatch.setattr("service.inference.pace.time", MagicMock(perf_counter=clock))
    threads: dict[str, int] = {}
    encode, decode = Engine.encode, Engine.decode_means

    def slow(engine: Engine, images: Images) -> tuple[Floats, Floats]:
        threads["encode"] = threading.get_ident()
        clock.return_value += 2e-3 * len(images)
        return encode(engine, images)

    def quick(engine: Engine, z: Floats) -> tuple[Images, Floats]:
        threads["decode"] = threading.get_ident()
        clock.return_value += 1e-5 * len(z)
        return decode(engine, z)

    monkeypatch.setattr(Engine, "encode", slow)
    monkeypatch.setattr(Engine, "decode_means", quick)
    write_bundle(tmp_path)
    registry = opened(tmp_path)
    autoencoder = registry.default.autoencoder

    async def scenario() -> None:
        mu = (await autoencoder.encode(np.zeros((1, 6, 4), np.uint8), Job())).mu
        await autoencoder.decode(np.resize(mu, (8, 3)), Job())

    asyncio.run(scenario())
    loop = threading.get_ident()
    assert (threads["encode"] == loop, threads["decode"] == loop) == (False, True)
    registry.close()


def test_a_default_that_is_refused_is_an_error_that_says_why(tmp_path: Path) -> None:
    seal(write_bundle(tmp_path), latent_dim=0)
    with pytest.raises(BundleRefused, match=r"The default model tiny cannot be served: tiny/1: .*latent_dim 0"):
        opened(tmp_path)


def test_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="There is no folder"):
        opened(tmp_path / "absent")


def test_folders_that_are_not_versions_are_ignored(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "tiny" / ".2.tmp").mkdir()
    (tmp_path / "tiny" / "draft").mkdir()
    registry = opened(tmp_path)
    assert not registry.refused
    assert len(list(registry)) == 1


def served(registry: Registry) -> list[str]:
    return [model.engine.contract.id for model in registry]


class TestRefresh:
    """Changes in the folder while its models are served."""

    def test_a_new_version_is_served_beside_the_old_one(self, tmp_path: Path) -> None:
        write_bundle(tmp_path)
        registry = opened(tmp_path)
        before = registry.find(None)
        write_bundle(tmp_path, version=2)
        registry.refresh()
        assert served(registry) == ["tiny@1", "tiny@2"]
        assert registry.find("tiny@1") is before
        assert registry.find(None) is registry.find("tiny@2")

    def test_nothing_is_opened_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_bundle(tmp_path)
        registry = opened(tmp_path)
        monkeypatch.setattr("service.inference.registry.read_bundle", None)
        registry.refresh()
        assert served(registry) == ["tiny@1"]

    def test_a_bundle_that_becomes_invalid_is_refused_and_the_open_one_stays(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = write_bundle(tmp_path)
        registry = opened(tmp_path)
        before, graph = registry.find("tiny@1"), (folder / "encoder.onnx").read_bytes()
        (folder / "encoder.onnx").write_bytes(b"corrupt")
        for _ in range(2):  # a second refresh without a change forgets nothing
            registry.refresh()
            assert registry.find("tiny@1") is before
            assert list(registry.refused) == ["tiny/1"]
        assert "tiny@1 is still served as it was opened before." in caplog.text
        (folder / "encoder.onnx").write_bytes(graph)
        registry.refresh()
        assert registry.refused == {}
        assert registry.find("tiny@1") is not before

    def test_a_bundle_with_other_weights_replaces_the_old_one(self, tmp_path: Path) -> None:
        folder = write_bundle(tmp_path)
        registry = opened(tmp_path)
        before = registry.find(None).engine.contract.identity
        shutil.rmtree(folder)
        write_bundle(tmp_path, seed=3)
        registry.refresh()
        assert registry.find(None).engine.contract.identity != before

    def test_a_version_that_is_removed_is_unknown_and_the_next_lower_one_the_default(self, tmp_path: Path) -> None:
        write_bundle(tmp_path)
        newer = write_bundle(tmp_path, version=2)
        registry = opened(tmp_path)
        shutil.rmtree(newer)
        registry.refresh()
        assert registry.find(None).engine.contract.id == "tiny@1"
        with pytest.raises(Unknown):
            registry.find("tiny@2")

    def test_a_removed_model_finishes_its_requests_and_then_leaves_no_thread(self, tmp_path: Path) -> None:
        folder = write_bundle(tmp_path)
        write_bundle(tmp_path, version=2)
        registry = opened(tmp_path)
        model = registry.find("tiny@1")
        model.batcher.inline_rows = 0  # so that the run needs the thread, which must still exist
        autoencoder = model.autoencoder
        del model
        shutil.rmtree(folder)
        registry.refresh()
        images = np.zeros((2, 6, 4), np.uint8)

        async def answer(autoencoder: Autoencoder) -> int:
            return len((await autoencoder.encode(images, Job())).mu)

        assert asyncio.run(asyncio.wait_for(answer(autoencoder), 60)) == 2
        assert threads("tiny@1")
        gc.freeze()  # as the service does: after this, only reference counts free the objects
        del autoencoder
        for thread in threads("tiny@1"):
            thread.join(60)
        assert not threads("tiny@1")
        gc.unfreeze()

    def test_only_selected_models_are_opened(self, tmp_path: Path) -> None:
        for version in (1, 2, 3):
            write_bundle(tmp_path, version=version)
        write_bundle(tmp_path, "colour", image_shape=(6, 4, 3))
        write_bundle(tmp_path, "other")
        selected = ("tiny@1", "tiny@3", "colour")
        registry = open_registry(
            tmp_path, default="tiny", options=RegistryOptions("cpu", threads=1, batch=8, selected=selected)
        )
        assert served(registry) == ["colour@1", "tiny@1", "tiny@3"]


def threads(model: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(model)]
