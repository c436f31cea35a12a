"""Ways to run a graph on CUDA, from arrays in the host's memory to arrays in the host's memory, and what each takes.

- **plain**: `session.run` with NumPy arrays, as the service does it;
- **binding**: onnxruntime's IO binding to arrays that are made once;
- **pinned**: the same with arrays in pages that the CUDA driver may read and write itself (`cudaHostRegister`);
- **graph**: buffers on the GPU, the kernels replayed as one CUDA graph, with copies from and to pinned pages;
- **TF32**: plain, with products of ten bits of mantissa.
"""

from __future__ import annotations

import ctypes
import functools
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import contract as names
from service.inference.bundle import Bundle
from service.inference.sessions import CPU, CUDA, CUDA_OPTIONS, session_options

Array = npt.NDArray[Any]
Feed = tuple[str, Array]
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
TYPES: Final = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def open_session(graph: bytes, *, threads: int = 1, cuda: bool = True, **cuda_options: str) -> ort.InferenceSession:
    """A session with the service's options; `cuda_options` come on top."""
    wanted = CUDA_OPTIONS | {"use_tf32": "0"} | cuda_options
    providers: list[Any] = [(CUDA, wanted), CPU] if cuda else [CPU]
    return ort.InferenceSession(graph, session_options(threads), providers=providers, enable_fallback=0)


def plain(session: ort.InferenceSession, feed: Feed) -> Callable[[], list[Array]]:
    name, rows = feed
    outputs = [node.name for node in session.get_outputs()]
    return lambda: session.run(outputs, {name: rows})


def bound(session: ort.InferenceSession, feed: Feed, *, pinned: bool = False) -> Callable[[], list[Array]]:
    name, rows = feed
    held = rows.copy()
    arrays = [np.empty((len(rows), *node.shape[1:]), TYPES[node.type]) for node in session.get_outputs()]
    if pinned:
        for array in (held, *arrays):
            pin(array)
    binding = session.io_binding()
    binding.bind_input(name, "cpu", 0, held.dtype.type, held.shape, held.ctypes.data)
    for node, array in zip(session.get_outputs(), arrays, strict=True):
        binding.bind_output(node.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run() -> list[Array]:
        held[:] = rows
        session.run_with_iobinding(binding)
        return [array.copy() for array in arrays]

    return run


def replayed(session: ort.InferenceSession, feed: Feed) -> Callable[[], list[Array]]:
    """`session` must have been opened with `enable_cuda_graph`."""
    name, rows = feed
    held = pin(rows.copy())
    arrays = [pin(np.empty((len(rows), *node.shape[1:]), TYPES[node.type])) for node in session.get_outputs()]
    binding, options = session.io_binding(), ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(len(rows)))
    there = ort.OrtValue.ortvalue_from_numpy(rows, "cuda", 0)
    results = [ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0) for array in arrays]
    binding.bind_ortvalue_input(name, there)
    for node, result in zip(session.get_outputs(), results, strict=True):
        binding.bind_ortvalue_output(node.name, result)

    def run() -> list[Array]:
        held[:] = rows
        there.update_inplace(held)
        session.run_with_iobinding(binding, options)
        for array, result in zip(arrays, results, strict=True):
            copy_to_host(array, result.data_ptr())
        return [array.copy() for array in arrays]

    return run


@functools.cache
def cudart() -> ctypes.CDLL:
    """The CUDA runtime of this process, which onnxruntime has loaded."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if "libcudart.so" in line))


def pin(array: Array) -> Array:
    """The same array; its pages may not be moved any more."""
    _checked(cudart().cudaHostRegister(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), 0))
    _PINNED.append(array)
    return array


_PINNED: list[Array] = []
_TO_HOST: Final = 2


def copy_to_host(array: Array, pointer: int) -> None:
    _checked(
        cudart().cudaMemcpy(
            ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(pointer), ctypes.c_size_t(array.nbytes), _TO_HOST
        )
    )


def _checked(code: int) -> None:
    if code:
        raise RuntimeError(f"CUDA error {code}")


def microseconds(run: Callable[[], object], seconds: float = 0.06) -> float:
    """The median over many calls, after some that do not count."""
    began = time.perf_counter()
    run()
    if (first := time.perf_counter() - began) > seconds:
        return first * 1e6
    for _ in range(4):
        run()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until or len(taken) < 5:
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def once(run: Callable[[], object]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e6


def rate(runs: list[Callable[[], object]], seconds: float = 0.2) -> float:
    """Calls a second of all together, each in a thread of its own."""
    counts, until = [0] * len(runs), time.perf_counter() + seconds

    def work(place: int) -> None:
        while time.perf_counter() < until:
            runs[place]()
            counts[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def feeds(bundle: Bundle, size: int) -> dict[str, tuple[bytes, Feed]]:
    """For each graph of a bundle its file, and so many rows of its golden inputs by the input's name."""
    golden = bundle.golden
    return {
        "encoder": (bundle.encoder, (names.IMAGE, np.resize(golden.image, (size, *golden.image.shape[1:])))),
        "decoder": (bundle.decoder, (names.Z, np.resize(golden.z, (size, *golden.z.shape[1:])))),
    }
