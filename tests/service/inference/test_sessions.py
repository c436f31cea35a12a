"""What failures of CUDA become. The messages are those that onnxruntime 1.31 gave on an H100."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from service.errors import DeviceFailed, NotOnCuda, ProviderUnavailable, RuntimeFailed
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.inference.sessions import CPU, CUDA, failure, open_session
from tests.bundles import write_bundle
from tests.service.fake_cuda import FakeCuda

SOURCE = "/onnxruntime_src/onnxruntime/core"
CALL = (
    f"{SOURCE}/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, onnxruntime::common::Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = "
    "{}; bool THRW = true; SUCCTYPE = {}; std::conditional_t<THRW, void, common::Status> = void] "
)

MISALIGNED = (
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 716: misaligned address ; GPU=0 ; hostname=vm ; "
    f"file={SOURCE}/providers/cuda/gpu_data_transfer.cc ; line=91 ; "
    "expr=cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyHostToDevice, "
    "static_cast<cudaStream_t>(stream.GetHandle())); "
)
RESET = MISALIGNED.replace("716: misaligned address", "400: invalid resource handle")
NO_BUFFER = (
    f"[ONNXRuntimeError] : 1 : FAIL : {SOURCE}/framework/bfc_arena.cc:360 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    "Failed to allocate memory for requested buffer of size 1310720\n"
)
NO_HANDLE = (
    f"[ONNXRuntimeError] : 1 : FAIL : {CALL.format('cublasStatus_t', 'cublasStatus_t')}"
    "CUBLAS failure 3: the resource allocation failed ; GPU=0 ; hostname=vm ; "
    f"file={SOURCE}/providers/cuda/cuda_stream_handle.cc ; line=79 ; expr=cublasCreate(&cublas_handle_); "
)
NO_KERNEL = NO_HANDLE.replace("3: the resource allocation failed", "13: the function failed to launch on the GPU")
NO_DEVICE = (
    f"{CALL.format('cudaError', 'cudaError')}CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; "
    f"hostname=vm ; file={SOURCE}/providers/cuda/cuda_execution_provider.cc ; line=355 ; "
    "expr=cudaSetDevice(info_.device_id); "
)


@pytest.mark.parametrize(
    ("message", "words", "lost"),
    [
        (MISALIGNED, "CUDA failure 716, misaligned address", True),
        (RESET, "CUDA failure 400, invalid resource handle", True),
        (NO_BUFFER, "the GPU has no memory left", False),
        (NO_HANDLE, "the GPU has no memory left", False),
        (NO_KERNEL, "CUBLAS failure 13, the function failed to launch on the GPU", False),
        ("CUDA failure 2: out of memory ; GPU=0 ; ", "the GPU has no memory left", False),
        ("something else", "something else", False),
    ],
)
def test_a_failed_run_on_a_gpu_says_why_and_whether_the_gpu_is_lost(message: str, words: str, lost: bool) -> None:
    found = failure(RuntimeError(message), "tiny@1", CUDA)
    assert isinstance(found, DeviceFailed)
    assert (str(found), found.lost) == (f"tiny@1: the GPU failed: {words}.", lost)


def test_a_failed_run_on_a_cpu_is_no_failure_of_a_device() -> None:
    found = failure(RuntimeError("why"), "tiny@1", CPU)
    assert type(found) is RuntimeFailed
    assert str(found) == "tiny@1: onnxruntime failed: why"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (NO_DEVICE, "CUDA failure 100, no CUDA-capable device is detected"),
        (NO_HANDLE, "the GPU has no memory left"),
    ],
)
def test_a_session_that_cuda_does_not_open_says_why(message: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(ProviderUnavailable) as caught:
        open_session(b"a graph", CUDA, 1)
    assert str(caught.value) == f"CUDA cannot be had: {words}."


class TestNodesWithoutAKernel:
    """onnxruntime leaves such nodes to the CPU, and says so only when it is asked."""

    @pytest.fixture(autouse=True)
    def left_to_the_cpu(self, cuda: list[FakeCuda], monkeypatch: pytest.MonkeyPatch) -> None:
        def part(provider: str, **nodes: str) -> Any:
            made = [SimpleNamespace(name=name, op_type=kind) for name, kind in nodes.items()]
            return SimpleNamespace(ep_name=provider, get_nodes=lambda: made)

        parts = [part(CUDA, node_linear="Gemm"), part(CPU, the_way_back="Asinh")]
        monkeypatch.setattr(FakeCuda, "left_to_the_cpu", parts)

    def test_with_cuda_the_bundle_is_refused_and_they_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(NotOnCuda) as caught:
            Engine(read_bundle(write_bundle(tmp_path)), provider="cuda", threads=1)
        assert str(caught.value) == ("tiny@1: CUDA has no kernel for Asinh (the_way_back), which would run on the CPU.")

    def test_with_auto_the_model_runs_on_the_cpu_as_a_whole_with_a_warning(
        self, tmp_path: Path, cuda: list[FakeCuda], caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = Engine(read_bundle(write_bundle(tmp_path)), provider="auto", threads=1)
        assert engine.provider == CPU
        assert [session.get_providers()[0] for session in cuda] == [CUDA, CPU, CPU]
        assert "CUDA has no kernel for Asinh (the_way_back)" in caplog.text
        assert "VAE_PROVIDER is auto: tiny@1 runs on the CPU." in caplog.text
