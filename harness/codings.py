"""The content codings of HTTP that the service knows, by other code than its own."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["PACK", "zeros", "zstd"]

PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "zstd": zstd.compress,
    "gzip": partial(gzip.compress, mtime=0),  # always the same
    "deflate": zlib.compress,
}


def zeros(size: int, window_log: int) -> bytes:
    """A frame of zstd of so many zeros that needs a window of 2 ** `window_log` bytes: it does not say its size."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    return packer.compress(bytes(size)) + packer.flush()
