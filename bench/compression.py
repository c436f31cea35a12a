"""From which size on it pays to compress an answer: the measurements behind VAE_COMPRESS_FROM_BYTES and the levels.

    python -m bench.compression

Answers are of real digits. Times are microseconds to compress and to unpack again, the best of 25. "Pays below" is
the speed of a connection, in Mbit/s, at which the bytes saved take as long as that: on a slower one the client has its
answer sooner.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from fastapi.testclient import TestClient
from zlib_ng import gzip_ng

from harness.codings import zstd
from harness.digits import digits
from harness.paths import MODELS
from service.api import compression
from service.app import create_app
from service.images.codec import npy_bytes
from service.inference.admission import Reservation
from service.settings import Settings

NPY: Final = "application/x-npy"
JSON: Final = "application/json"
LEVELS_OF: Final = "`/reconstruct`, json, 64"
COUNTS: Final = (1, 2, 4, 8, 16, 64, 200)


def main() -> None:
    """Measure and print."""
    names = " | ".join(f"{name}: bytes | us | pays below" for name in ("zstd", "gzip"))
    print(f"| answer | bytes | {names} |\n|---|{'---|' * 7}")
    for name, content in answers():
        cells = " | ".join(measured(content, coding) for coding in ("zstd", "gzip"))
        print(f"| {name} | {len(content)} | {cells} |")
        if name == LEVELS_OF:
            chosen = content
    print(f"\n| {LEVELS_OF} | bytes | us |\n|---|---|---|")
    for level in (1, 2, 6):
        level_row(f"zlib-ng, level {level}", partial(gzip_ng.compress, chosen, level, mtime=0))
    for level in (-1, 1, 3):
        level_row(f"zstd, level {level}", partial(zstd.compress, chosen, level))


def level_row(name: str, work: Callable[[], bytes]) -> None:
    """Print what one level makes of the answer, and in what time."""
    print(f"| {name} | {len(work())} | {seconds(work) * 1e6:.0f} |")


def answers() -> Iterator[tuple[str, bytes]]:
    """Answers of the verbs and of other routes."""
    with TestClient(create_app(Settings(models_dir=MODELS))) as client:
        for path, media_type in (("/encode", JSON), ("/reconstruct", JSON), ("/encode", NPY), ("/reconstruct", NPY)):
            for count in COUNTS:
                headers = {"Content-Type": NPY, "Accept": media_type}
                found = client.post(path, content=npy_bytes(digits()[:count]), headers=headers)
                yield f"`{path}`, {media_type.rpartition('/')[2]}, {count}", found.content
        for path in ("/models", "/openapi.json", "/metrics"):
            yield f"`{path}`", client.get(path).content


def measured(content: bytes, coding: str) -> str:
    """Cells of the table for one answer in one coding."""
    packed = compression.pack(content, coding)
    reservation = Reservation()
    there = seconds(lambda: compression.pack(content, coding))
    back = seconds(lambda: compression.unpack(packed, (coding,), len(content), reservation))
    saved = len(content) - len(packed)
    speed = f"{saved * 8 / (there + back) / 1e6:.0f}" if saved > 0 else "never"
    return f"{len(packed)} | {there * 1e6:.0f} + {back * 1e6:.0f} | {speed}"


def seconds(work: Callable[[], object]) -> float:
    """What one call takes."""
    times = max(1, int(0.005 / timeit.timeit(work, number=1)))
    return min(timeit.repeat(work, number=times, repeat=25)) / times


if __name__ == "__main__":
    main()
