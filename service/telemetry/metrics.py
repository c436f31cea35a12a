"""The metrics of the service: counted in a microsecond, correct over all workers and their restarts.

prometheus-client writes the exposition. It is too slow for counting: the two counters and five histograms of a request
took 4.8 us, and 13 us in its mode for several processes; with cold CPU caches, as after a run of the encoder, 6.6 and
15 us. Here they are one call, which takes 1.2 us, 2.0 us with cold caches, and 1.5 us in the running server. It looks
up the cells of the request's labels in a dictionary and adds to them (`cells.py`). `python -m bench.counting` measures
this. Gauges are updated for each scrape, and every second for scrapes that another worker answers.

All methods must be called in the event loop's thread. Durations are in seconds.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import ProcessCollector

from service.telemetry import families
from service.telemetry.agreement import Agreement
from service.telemetry.cells import SIZE, Cells
from service.telemetry.families import Family, key_of

UNMATCHED: Final = "unmatched"  # the route label of requests that match no route
OTHER: Final = "other"

STAGES: Final = ("read", "queue", "compute", "write")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# bisect_left in one of these gives the cell of a value in its histogram. The first cell holds the sum of the values.
_DURATION: Final = (-math.inf, *families.DURATION_BOUNDS)
_STAGE: Final = (-math.inf, *families.STAGE_BOUNDS)
_BATCH: Final = (-math.inf, *families.BATCH_BOUNDS)

# Space that is kept free, so that each family has room for one more set of labels: "other" in every label. It is used
# when there are unexpectedly many labels.
_RESERVE: Final = SIZE // 16


@dataclass(frozen=True, slots=True)
class Sources:
    """Functions that return the values of the gauges. They are called at each refresh.

    `queue_depth`: images admitted and not yet answered. `ready`: the answer of /readyz. `models`: name, version,
    provider and identity of each model that is served. `models_hash`: a number made of all that is served.
    `log_lines_lost`: log lines lost since the process started.
    """

    queue_depth: Callable[[], int]
    ready: Callable[[], bool]
    models: Callable[[], Iterable[tuple[str, int, str, str]]]
    models_hash: Callable[[], int]
    log_lines_lost: Callable[[], int]


class Metrics:
    """The metrics of this process; with a directory (`cells.shared_directory`), of all workers that share it."""

    def __init__(self, directory: Path | None = None, agree_seconds: float = 5.0) -> None:
        """Join the workers that share `directory`. Raises OSError when there is no space in it.

        Workers may serve different models for `agree_seconds` without anybody being told.
        """
        self._storage = Cells(directory)
        self._cells = self._storage.values
        for key, first in self._storage.items():
            if families.is_gauge(key):
                self._cells[first] = math.nan  # a value of the worker that had this file before
        self._sources: Sources | None = None
        self._models: set[tuple[str, str, str, str]] = set()
        self.agreement = Agreement(self._storage, agree_seconds)
        self._process = ProcessCollector(registry=None)
        self._counted: dict[str, float] = {}
        self._answered: dict[tuple[str, str], tuple[int, ...]] = {}
        self._requests: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._places: dict[tuple[str, tuple[str, ...]], int] = {}
        self._set(families.MODELS_HASH, math.nan)  # among the first cells, where the other workers soon find it
        self.refresh()

    def watch(self, sources: Sources) -> None:
        """Set where the values of the gauges come from."""
        self._sources = sources
        self.refresh()

    def answered(
        self,
        route: str,
        model: str,
        images: int,
        seconds: float,
        read: float,
        queue: float,
        compute: float,
        write: float,
    ) -> None:
        """Count a request to a verb that was answered with 200: all of its metrics in one call."""
        try:
            requests, counted, total, first, second, third, fourth = self._answered[route, model]
        except KeyError:
            requests, counted, total, first, second, third, fourth = self._places_of_answered(route, model)
        cells = self._cells
        cells[requests] += 1.0
        cells[counted] += images
        cells[total] += seconds
        cells[total + bisect_left(_DURATION, seconds)] += 1.0
        cells[first] += read
        cells[first + bisect_left(_STAGE, read)] += 1.0
        cells[second] += queue
        cells[second + bisect_left(_STAGE, queue)] += 1.0
        cells[third] += compute
        cells[third + bisect_left(_STAGE, compute)] += 1.0
        cells[fourth] += write
        cells[fourth + bisect_left(_STAGE, write)] += 1.0

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count any other request, also one to a verb that failed. `route` is the route's template, or UNMATCHED."""
        try:
            requests, total = self._requests[route, method, status]
        except KeyError:
            requests, total = self._places_of_request(route, method, status)
        cells = self._cells
        cells[requests] += 1.0
        cells[total] += seconds
        cells[total + bisect_left(_DURATION, seconds)] += 1.0

    def batch(self, model: str, run: str, rows: int) -> None:
        """Count one run of a model: its kind and its number of rows."""
        size, _ = self._place(families.BATCH_SIZE, model, run)
        cells = self._cells
        cells[size] += rows
        cells[size + bisect_left(_BATCH, rows)] += 1.0

    def rejected(self, reason: str) -> None:
        """Count a request that was not finished. `reason` is a value of `VaeError.rejection`, such as "queue_full"."""
        self._cells[self._place(families.REJECTED, reason)[0]] += 1.0

    def connection_closed(self, reason: str) -> None:
        """Count a connection that was closed because of its client; `reason` is a word of a small set."""
        self._cells[self._place(families.CONNECTIONS_CLOSED, reason)[0]] += 1.0

    def refresh(self) -> None:
        """Update the gauges."""
        self._count_up(families.CPU, time.process_time())
        self._set(families.HEARTBEAT, time.time())
        found = {metric.name: metric.samples[0].value for metric in self._process.collect()}
        for family in (families.RSS, families.OPEN_FDS, families.MAX_FDS, families.START_TIME):
            self._set(family, found.get(family.name.removeprefix("vae_"), math.nan))
        if self._sources is not None:
            self._count_up(families.LOG_LINES_LOST, self._sources.log_lines_lost())
            self._set(families.QUEUE_DEPTH, self._sources.queue_depth())
            self._set(families.READY, self._sources.ready())
            self._set(families.MODELS_HASH, self._sources.models_hash())
            self._set(families.WORKERS_AGREE, not self.agreement.differing)
            models = {(name, str(version), where, whose) for name, version, where, whose in self._sources.models()}
            for model in models:
                self._set(families.MODEL_INFO, 1.0, *model)
            for gone in self._models - models:
                self._set(families.MODEL_INFO, math.nan, *gone)
            self._models = models

    async def keep_fresh(self) -> None:
        """Refresh every second, and look at the other workers, until cancelled."""
        while True:
            if self._sources is not None:
                self.agreement.look(self._sources.models_hash())
            self.refresh()
            await asyncio.sleep(1)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Every metric of all workers in the format that the Accept header asks for, and its media type."""
        self.refresh()
        return families.exposition(self._storage.snapshots(), accept)

    def _places_of_answered(self, route: str, model: str) -> tuple[int, ...]:
        places = [
            self._place(families.REQUESTS, route, "POST", "200"),
            self._place(families.IMAGES, model, route.rpartition("/")[2]),
            self._place(families.REQUEST_DURATION, route),
            *(self._place(families.STAGE_DURATION, route, stage) for stage in STAGES),
        ]
        found = tuple(index for index, _ in places)
        if all(known for _, known in places):
            self._answered[route, model] = found
        return found

    def _places_of_request(self, route: str, method: str, status: int) -> tuple[int, int]:
        method = method if method in _METHODS else OTHER
        requests, known = self._place(families.REQUESTS, route, method, str(status))
        total, also_known = self._place(families.REQUEST_DURATION, route)
        if known and also_known:
            self._requests[route, method, status] = requests, total
        return requests, total

    def _place(self, family: Family, *values: str) -> tuple[int, bool]:
        """The index of the first cell for these label values; False if they share the cells of "other"."""
        values = tuple([value.encode("utf-8", "replace").decode() for value in values])
        key = family.name, values
        if key not in self._places:
            first = self._storage.first(key_of(family, values), family.cells, reserve=_RESERVE)
            if first is None:
                first = self._storage.first(key_of(family, [OTHER] * len(values)), family.cells)
                if first is None:
                    raise MemoryError("There is no room for a metric, not even in the reserve.")
                return first, False
            self._places[key] = first
        return self._places[key], True

    def _set(self, family: Family, value: float, *values: str) -> None:
        self._cells[self._place(family, *values)[0]] = value

    def _count_up(self, family: Family, now: float) -> None:
        """Add the increase since the last call. The cell may already hold the counts of processes before this one."""
        self._cells[self._place(family)[0]] += now - self._counted.get(family.name, 0.0)
        self._counted[family.name] = now
