"""Ways to break CUDA in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LEAST: Final = 1 << 16  # bytes

# A kernel that writes to an address that is not aligned, after which CUDA is of no use to the process any more.
FAULT: Final = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry fault() {
  .reg .b64 %r;
  mov.u64 %r, 4660;
  st.global.u64 [%r], %r;
  ret;
}
\0"""


def runtime() -> ctypes.CDLL:
    """The CUDA runtime that onnxruntime has loaded."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return ctypes.CDLL(next(line.split()[-1] for line in maps if "libcudart.so" in line))


@contextmanager
def full() -> Iterator[None]:
    """No memory of the GPU is left, until the block ends."""
    library, held, size = runtime(), [], 1 << 32
    pointer = ctypes.c_void_p()
    while size >= LEAST:
        if library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)):
            library.cudaGetLastError()  # so that nobody else gets this error
            size >>= 1
        else:
            held.append(pointer.value)
    try:
        yield
    finally:
        for each in held:
            library.cudaFree(ctypes.c_void_p(each))


def fault() -> None:
    """Have a kernel fail. From then on every call of CUDA in this process fails with its error."""
    driver = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    assert driver.cuDeviceGet(ctypes.byref(device), 0) == 0
    # onnxruntime may have made the context current in other threads only.
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    assert driver.cuCtxSetCurrent(context) == 0
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver.cuModuleLoadData(ctypes.byref(module), FAULT) == 0
    assert driver.cuModuleGetFunction(ctypes.byref(function), module, b"fault") == 0
    assert driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, None, None) == 0
    assert driver.cuCtxSynchronize() != 0
