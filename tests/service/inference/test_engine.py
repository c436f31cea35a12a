from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import onnxruntime as ort
import pytest

from harness.digits import digits
from harness.paths import MODELS
from service import contract as names
from service.errors import BundleRefused, InvalidInput, ProviderUnavailable, RuntimeFailed
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.inference.sessions import CPU, CUDA, ProviderPolicy
from tests.bundles import seal, write_bundle
from tests.service.fake_cuda import FakeCuda


def open_engine(folder: Path, provider: ProviderPolicy = "cpu", threads: int = 1) -> Engine:
    return Engine(read_bundle(folder), provider=provider, threads=threads)


@pytest.fixture(scope="module")
def shipped() -> Engine:
    return open_engine(MODELS / "mnist-mlp" / "2")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 16, 31, 32, 64, 100, 256])
def test_a_row_of_a_batch_equals_the_row_alone_bit_for_bit(shipped: Engine, size: int) -> None:
    images = np.resize(digits(), (size, 28, 28))
    mu, logvar = shipped.encode(images)
    decoded = shipped.decode(mu)
    for row in range(size):
        alone_mu, alone_logvar = shipped.encode(images[row : row + 1])
        assert alone_mu.tobytes() == mu[row].tobytes()
        assert alone_logvar.tobytes() == logvar[row].tobytes()
        assert shipped.decode(alone_mu).tobytes() == decoded[row].tobytes()


def test_several_threads_give_the_same_results(shipped: Engine) -> None:
    mu, _ = open_engine(MODELS / "mnist-mlp" / "2", threads=2).encode(digits()[:8])
    np.testing.assert_allclose(mu, shipped.encode(digits()[:8])[0], atol=names.GOLDEN_TOLERANCE)


def test_many_images_are_refined_in_parts_so_that_buffers_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path)
    images = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (300, 6, 4), np.uint8)
    together = open_engine(folder).encode(images)
    seal(folder, recipe={"refinement_steps": 4, "refinement_draws": 4})
    refining = open_engine(folder)
    run = MagicMock(side_effect=refining._run)
    monkeypatch.setattr(refining, "_run", run)
    for whole, parts in zip(together, refining.encode(images), strict=True):
        assert whole.tobytes() == parts.tobytes()
    assert [len(call.args[3]) for call in run.call_args_list] == [64, 64, 64, 64, 44]


def test_an_exception_of_onnxruntime_becomes_runtime_failed(shipped: Engine) -> None:
    with pytest.raises(RuntimeFailed, match="mnist-mlp@2: onnxruntime failed"):
        shipped.encode(np.zeros((1, 27, 28), np.uint8))


def test_encoder_values_that_are_not_finite_are_a_failure(shipped: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = np.full((1, 20), np.nan, np.float32)
    monkeypatch.setattr(shipped, "_run", lambda *_: [broken, broken])
    with pytest.raises(RuntimeFailed, match="not finite"):
        shipped.encode(digits()[:1])


def test_an_encoder_and_a_decoder_of_two_models_are_refused(tmp_path: Path) -> None:
    mine, other = write_bundle(tmp_path / "a"), write_bundle(tmp_path / "b", seed=5)
    (mine / names.DECODER_FILE).write_bytes((other / names.DECODER_FILE).read_bytes())
    seal(mine)
    with pytest.raises(BundleRefused, match=r"decoder\.onnx carries another identity"):
        open_engine(mine)


@pytest.mark.parametrize("claim", [{"latent_dim": 4}, {"image_shape": (4, 6)}, {"identity": "0" * 64}])
def test_graphs_that_are_not_those_of_the_contract_are_refused(tmp_path: Path, claim: dict[str, Any]) -> None:
    folder = write_bundle(tmp_path)
    seal(folder, **claim)
    with pytest.raises(BundleRefused, match=r"another identity|golden\.npz does not hold"):
        open_engine(folder)


@pytest.mark.parametrize("array", ["mu", "logvar", "decoded"])
def test_outputs_that_differ_from_pytorchs_refuse_the_bundle(tmp_path: Path, array: str) -> None:
    folder = write_bundle(tmp_path)
    with np.load(folder / names.GOLDEN_FILE) as arrays:
        changed = {name: arrays[name].copy() for name in arrays.files}
    if array == "decoded":
        changed[array][0, 0, 0] ^= 64
    else:
        changed[array][0, 0] += 2 * names.GOLDEN_TOLERANCE
    np.savez(folder / names.GOLDEN_FILE, **changed)
    seal(folder)
    with pytest.raises(BundleRefused, match="self-test failed"):
        open_engine(folder)


def test_a_file_that_is_not_a_graph_refuses_the_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    (folder / names.ENCODER_FILE).write_bytes(b"not a graph")
    seal(folder)
    with pytest.raises(BundleRefused, match="cannot open a graph"):
        open_engine(folder)


class TestProviders:
    """onnxruntime with CUDA, without it, and with CUDA that does not work. These tests need no GPU."""

    @pytest.fixture
    def built_with_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])

    def test_cuda_is_refused_by_an_onnxruntime_without_it(self, tmp_path: Path) -> None:
        with pytest.raises(ProviderUnavailable, match="install onnxruntime-gpu"):
            open_engine(write_bundle(tmp_path), provider="cuda")

    @pytest.mark.usefixtures("built_with_cuda")
    def test_cuda_that_is_built_in_but_does_not_work_is_an_error_not_a_silent_cpu(self, tmp_path: Path) -> None:
        with pytest.raises(ProviderUnavailable):
            open_engine(write_bundle(tmp_path), provider="cuda")

    @pytest.mark.usefixtures("built_with_cuda")
    def test_auto_falls_back_with_a_warning_and_says_what_it_runs_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = open_engine(write_bundle(tmp_path), provider="auto")
        assert engine.provider == CPU
        assert "tiny@1 runs on the CPU" in caplog.text

    @pytest.mark.usefixtures("built_with_cuda")
    def test_cpu_never_tries_cuda(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert open_engine(write_bundle(tmp_path), provider="cpu").provider == CPU
        assert not caplog.records

    def test_cuda_is_tried_first_and_onnxruntimes_fallback_is_off(self, tmp_path: Path, cuda: list[FakeCuda]) -> None:
        engine = open_engine(write_bundle(tmp_path), provider="cuda")
        assert engine.provider == CUDA
        assert [session.asked["providers"][0][0] for session in cuda] == [CUDA, CUDA]
        assert [session.asked["enable_fallback"] for session in cuda] == [0, 0]
        assert not any(session.fallback for session in cuda)

    def test_cuda_sees_few_batch_sizes_and_all_of_them_before_the_first_request(
        self, tmp_path: Path, cuda: list[FakeCuda]
    ) -> None:
        folder = write_bundle(tmp_path)
        engine, cpu = open_engine(folder, provider="cuda"), open_engine(folder)
        warm = [set(session.sizes) for session in cuda[:2]]
        images = np.resize(read_bundle(folder).golden.image, (256, *engine.contract.image_shape))
        for count in (1, 2, 3, 5, 8, 31, 100, 129, 256):
            mu, logvar = engine.encode(images[:count])
            decoded = engine.decode(mu)
            there_mu, there_logvar = cpu.encode(images[:count])
            assert (mu.tobytes(), logvar.tobytes()) == (there_mu.tobytes(), there_logvar.tobytes())
            assert decoded.tobytes() == cpu.decode(there_mu).tobytes()
        assert [set(session.sizes) for session in cuda[:2]] == warm
        assert len(engine.encode(np.resize(images, (300, *images.shape[1:])))[0]) == 300
        assert cuda[0].sizes[-1] == 512

    def test_sessions_take_the_threads_they_are_given_and_do_not_spin(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[ort.SessionOptions] = []
        real = ort.InferenceSession

        def spy(graph: bytes, options: ort.SessionOptions, **rest: Any) -> Any:
            seen.append(options)
            return real(graph, options, **rest)

        monkeypatch.setattr(ort, "InferenceSession", spy)
        open_engine(write_bundle(tmp_path), threads=2)
        assert {options.intra_op_num_threads for options in seen} == {2}
        assert {options.get_session_config_entry("session.intra_op.allow_spinning") for options in seen} == {"0"}


class TestOverflow:
    """Latents whose images are not finite: it is their fault if the golden ones are decoded as ever."""

    @pytest.fixture
    def overflowing(self, shipped: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
        """An engine whose decoder gives infinity for rows that begin with 7."""
        run = shipped._run

        def overflow(session: Any, outputs: list[str], name: str, rows: Any) -> Any:
            results = run(session, outputs, name, rows)
            if name == "z":
                results[1] = results[1].copy()
                results[1][rows[:, 0] == 7] = np.inf
            return results

        monkeypatch.setattr(shipped, "_run", overflow)
        return shipped

    def test_it_names_the_rows(self, overflowing: Engine) -> None:
        z = np.zeros((4, 20), np.float32)
        overflowing.decode(z)
        z[[1, 3], 0] = 7
        with pytest.raises(InvalidInput) as caught:
            overflowing.decode(z)
        assert [fault.path for fault in caught.value.faults] == [("z", 1), ("z", 3)]

    def test_a_decoder_that_fails_on_everything_is_a_failure(
        self, shipped: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shipped, "_run", lambda *_: [np.zeros((4, 28, 28), np.uint8), np.full((4, 28, 28), np.nan)])
        with pytest.raises(RuntimeFailed, match="not finite"):
            shipped.decode(np.zeros((4, 20), np.float32))
