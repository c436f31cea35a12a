"""The only module that imports onnxruntime. It chooses the provider, opens graphs, and puts what fails into words."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.errors import BundleRefused, DeviceFailed, NotOnCuda, ProviderUnavailable, RuntimeFailed

Array = npt.NDArray[Any]
Session: TypeAlias = ort.InferenceSession
ProviderPolicy = Literal["auto", "cpu", "cuda"]

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

CUDA_OPTIONS: Final[dict[str, str]] = {
    # Let the memory arena grow by the size requested, not to the next power of two, which a small model does not need.
    "arena_extend_strategy": "kSameAsRequested",
    # The default, an exhaustive search, makes the first run of each new shape slow.
    "cudnn_conv_algo_search": "HEURISTIC",
}

# As onnxruntime 1.31 words them. The number is that of cudaError_t, cublasStatus_t or cudnnStatus_t.
_FAILURE: Final = re.compile(r"(CUDA|CUBLAS|CUDNN)\w* failure (\d+): ([^;]+?) *;")
_NO_MEMORY: Final = re.compile(
    r"Failed to allocate memory|memory allocation|out of memory|ALLOC_FAILED|resource allocation failed", re.IGNORECASE
)


def choose_provider(policy: ProviderPolicy) -> str:
    """The execution provider to try first. `open_session` finds out whether it works.

    Raises ProviderUnavailable when the policy is "cuda" and onnxruntime was built without it.
    """
    if policy == "cpu":
        return CPU
    if CUDA in ort.get_available_providers():
        return CUDA
    if policy == "cuda":
        raise ProviderUnavailable("VAE_PROVIDER is cuda, but this onnxruntime has no CUDA; install onnxruntime-gpu.")
    return CPU


def open_session(graph: bytes, provider: str, threads: int, *, tf32: bool = False) -> Session:
    """A session whose nodes all run on `provider`.

    With `tf32`, products on CUDA have inputs of ten bits of mantissa. Raises BundleRefused when onnxruntime cannot open
    the graph, ProviderUnavailable when CUDA does not work, and NotOnCuda when it has no kernel for a node.
    """
    options = session_options(threads)
    providers: list[Any] = [CPU]
    if provider == CUDA:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers = [(CUDA, CUDA_OPTIONS | {"use_tf32": str(int(tf32))}), CPU]
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # loads the CUDA libraries of the nvidia packages, if pip installed them
    try:
        # enable_fallback=0: otherwise onnxruntime prints a line, retries on the CPU and reports success.
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        if provider == CUDA:
            raise ProviderUnavailable(f"CUDA cannot be had: {_words(error)}.") from error
        raise BundleRefused(f"onnxruntime cannot open a graph: {error}") from error
    session.disable_fallback()  # otherwise a failing run() moves the session to the CPU, too
    session._model_bytes = None  # a second copy of the graph, used only for that fallback
    if session.get_providers()[0] != provider:
        raise ProviderUnavailable(f"onnxruntime could not give {provider}; what it wrote on standard error says why.")
    if provider == CUDA and (strange := _on_the_cpu(session)):
        raise NotOnCuda(f"CUDA has no kernel for {', '.join(strange)}, which would run on the CPU.")
    return session


def session_options(threads: int) -> ort.SessionOptions:
    """The options of every session, whatever runs it."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors are raised; warnings would only be printed on standard error
    # Explicit threads: by default onnxruntime uses every core of the host and binds its threads to them, whatever the
    # quota of the container. Spinning would keep a core busy after each run, to save microseconds in the next one.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def failure(error: Exception, model: str, provider: str) -> RuntimeFailed:
    """What an exception of a session's run means: DeviceFailed on a GPU."""
    if provider == CUDA:
        return DeviceFailed(f"{model}: the GPU failed: {_words(error)}.", lost=_is_lost(error))
    return RuntimeFailed(f"{model}: onnxruntime failed: {error}")


def padded(rows: Array) -> Array:
    """Rows [N, ...] with zeros after them, up to the next power of two.

    On CUDA each new batch size makes onnxruntime's arena keep another set of buffers, and cuBLAS select kernels again.
    There are only eleven powers of two up to 1,024. A GPU computes the extra rows in parallel with the others.
    """
    size = 1 << (len(rows) - 1).bit_length()
    if size == len(rows):
        return rows
    fed = np.zeros((size, *rows.shape[1:]), rows.dtype)
    fed[: len(rows)] = rows
    return fed


def _on_the_cpu(session: Session) -> list[str]:
    """The nodes that onnxruntime has left to the CPU."""
    return [
        f"{node.op_type} ({node.name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != CUDA
        for node in part.get_nodes()
    ]


def _words(error: Exception) -> str:
    """What CUDA said, out of onnxruntime's message with its places in the source; all of it, where it said nothing."""
    text = str(error)
    if _NO_MEMORY.search(text):
        return "the GPU has no memory left"
    found = _FAILURE.search(text)
    return f"{found[1]} failure {found[2]}, {found[3]}" if found else text.strip()


def _is_lost(error: Exception) -> bool:
    """Whether CUDA itself failed. After most of its errors all later calls of the process fail, too.

    Memory is no such error (CUDA C++ Programming Guide, "Error Checking"; CUDA runtime API, cudaError_t).
    """
    found = _FAILURE.search(str(error))
    return found is not None and found[1] == "CUDA" and not _NO_MEMORY.search(str(error))
