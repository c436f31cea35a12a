"""Statistics of the models, as Triton has them: counts and nanoseconds since the service started, of all workers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from service.api.context import RequestContext
from service.telemetry.cells import Cells

# The cells of a model: how many requests were answered and how many failed, their images, milliseconds since 1970 at
# the last answer; the seconds of both kinds of requests, and of the stages of those that were answered.
_SUCCEEDED, _FAILED, _IMAGES, _LAST, _SUCCESS, _FAIL, _QUEUE, _READ, _COMPUTE, _WRITE = range(10)
_CELLS: Final = 10

# The stages of a request by the names of the protocol.
_STAGES: Final = {"queue": _QUEUE, "compute_input": _READ, "compute_infer": _COMPUTE, "compute_output": _WRITE}


class Statistics:
    """The statistics of every model that was asked for anything. Only for the event loop's thread.

    They have a file of cells of their own beside that of the metrics, so that neither takes the other's room.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Join the workers that share `directory`. Raises OSError when there is no space in it."""
        if directory is not None:
            directory = directory / "statistics"
            directory.mkdir(exist_ok=True)
        self._cells = Cells(directory)
        self._first: dict[tuple[str, str], int | None] = {}

    def add(self, name: str, version: str, request: RequestContext) -> None:
        """Count a request to a model that was answered or has failed after it was read.

        Models for which there is no room are not counted: it is enough for about two thousand.
        """
        try:
            first = self._first[name, version]
        except KeyError:
            first = self._first[name, version] = self._cells.first(_key(name, version), _CELLS)
        if first is None:
            return
        cells = self._cells.values
        if request.status != 200:
            cells[first + _FAILED] += 1.0
            cells[first + _FAIL] += request.seconds
            return
        cells[first + _SUCCEEDED] += 1.0
        cells[first + _IMAGES] += request.images
        cells[first + _LAST] = time.time_ns() // 10**6
        cells[first + _SUCCESS] += request.seconds
        cells[first + _QUEUE] += request.queue
        cells[first + _READ] += request.read
        cells[first + _COMPUTE] += request.compute
        cells[first + _WRITE] += request.write

    def documents(self, models: list[tuple[str, str]]) -> list[dict[str, object]]:
        """The statistics of models, by name and version. A request is one execution, although requests share runs."""
        workers = [snapshot.cells for snapshot in self._cells.snapshots()]
        return [_document(name, version, workers) for name, version in models]


def _document(name: str, version: str, workers: list[dict[str, list[float]]]) -> dict[str, object]:
    key, nothing = _key(name, version), [0.0] * _CELLS
    columns = list(zip(*(cells.get(key, nothing) for cells in workers), strict=True))
    total = [sum(column) for column in columns]
    durations = {
        "success": _duration(total[_SUCCEEDED], total[_SUCCESS]),
        "fail": _duration(total[_FAILED], total[_FAIL]),
        **{stage: _duration(total[_SUCCEEDED], total[cell]) for stage, cell in _STAGES.items()},
        "cache_hit": _duration(0, 0),
        "cache_miss": _duration(0, 0),
    }
    return {
        "name": name,
        "version": version,
        "last_inference": int(max(columns[_LAST])),
        "inference_count": int(total[_IMAGES]),
        "execution_count": int(total[_SUCCEEDED]),
        "inference_stats": durations,
        "batch_stats": [],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * 1e9)}


def _key(name: str, version: str) -> str:
    return json.dumps([name, version])
