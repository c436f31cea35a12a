"""Statistics of the models, as Triton has them: counts and nanoseconds since the start of this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from service.api.context import RequestContext

# The stages of a request by the names of the protocol.
_STAGES: Final = {"queue": "queue", "compute_input": "read", "compute_infer": "compute", "compute_output": "write"}


@dataclass(slots=True)
class _Counts:
    """The requests to one model: answered, failed, their images, and their seconds."""

    succeeded: int = 0
    failed: int = 0
    images: int = 0
    last: int = 0
    success: float = 0.0
    fail: float = 0.0
    queue: float = 0.0
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0


class Statistics:
    """The statistics of every model that was asked for anything. Only for the event loop's thread."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._counts: dict[tuple[str, str], _Counts] = {}

    def add(self, name: str, version: str, request: RequestContext) -> None:
        """Count a request to a model that was answered or has failed after it was read."""
        counts = self._counts.get((name, version))
        if counts is None:
            counts = self._counts.setdefault((name, version), _Counts())
        if request.status != 200:
            counts.failed += 1
            counts.fail += request.seconds
            return
        counts.succeeded += 1
        counts.images += request.images
        counts.last = time.time_ns() // 10**6
        counts.success += request.seconds
        counts.queue += request.queue
        counts.read += request.read
        counts.compute += request.compute
        counts.write += request.write

    def document(self, name: str, version: str) -> dict[str, object]:
        """The statistics of one model. A request counts as one execution, although requests share runs."""
        counts = self._counts.get((name, version), _Counts())
        durations = {
            "success": _duration(counts.succeeded, counts.success),
            "fail": _duration(counts.failed, counts.fail),
            **{stage: _duration(counts.succeeded, getattr(counts, own)) for stage, own in _STAGES.items()},
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        }
        return {
            "name": name,
            "version": version,
            "last_inference": counts.last,
            "inference_count": counts.images,
            "execution_count": counts.succeeded,
            "inference_stats": durations,
            "batch_stats": [],
        }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
