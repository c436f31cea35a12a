"""The list of metrics, and their exposition for Prometheus. docs/metrics.md explains them to operators."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric

from service.telemetry.cells import Snapshot

# Upper bounds in seconds. A request with one digit takes 60 us on an idle machine, and each stage a part of that;
# deadlines are seconds. The bounds for whole requests are closer together where most durations are.
_FROM_A_MILLISECOND: Final = (1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DURATION_BOUNDS: Final = (50e-6, 75e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 750e-6, *_FROM_A_MILLISECOND)
STAGE_BOUNDS: Final = (5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, *_FROM_A_MILLISECOND)
BATCH_BOUNDS: Final = tuple(float(2**power) for power in range(13))  # images: up to 4,096, the maximum of VAE_BATCH

# This label is the number of the worker's file of cells. It is not stored in the file, but added when the file is read.
_WORKER: Final = "worker"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without suffix, its labels, and its buckets.

    Cells of several workers with the same labels are combined. Counters and histograms are added, including those of
    dead workers. Of gauges, the maximum over the living workers is taken; NaN means no value. The cells of a histogram
    are the sum of its values, and then the count of each bucket. `bounds` are the inclusive upper bounds of the
    buckets; the last bucket has none.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        """The number of cells for one set of label values."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


REQUESTS: Final = Family(
    "vae_requests", "counter", ("route", "method", "status"), "Requests answered, by the route's template."
)
REQUEST_DURATION: Final = Family(
    "vae_request_duration_seconds",
    "histogram",
    ("route",),
    "Seconds from a request's arrival to its answer.",
    DURATION_BOUNDS,
)
STAGE_DURATION: Final = Family(
    "vae_stage_duration_seconds",
    "histogram",
    ("route", "stage"),
    "Seconds of an answered request to a verb in a stage: read, queue, compute, write.",
    STAGE_BOUNDS,
)
BATCH_SIZE: Final = Family(
    "vae_batch_size_images", "histogram", ("model", "run"), "Images or latents in one run of a model.", BATCH_BOUNDS
)
IMAGES: Final = Family("vae_images", "counter", ("model", "verb"), "Images or latents in answered requests.")
REJECTED: Final = Family("vae_rejected", "counter", ("reason",), "Requests that were not finished.")
CONNECTIONS_CLOSED: Final = Family(
    "vae_connections_closed",
    "counter",
    ("reason",),
    "Connections closed because of what their client did.",
)
QUEUE_DEPTH: Final = Family(
    "vae_queue_depth_images", "gauge", (_WORKER,), "Images that one worker holds, waiting or being computed."
)
READY: Final = Family("vae_ready", "gauge", (_WORKER,), "1 when the worker's /readyz says 200, else 0.")
MODEL_INFO: Final = Family(
    "vae_model_info",
    "gauge",
    ("name", "version", "provider", "identity", _WORKER),
    "1 for each model that the worker serves.",
)
MODELS_HASH: Final = Family(
    "vae_models_hash",
    "gauge",
    (_WORKER,),
    "A number made of all that the worker serves: equal in workers that serve the same bundles.",
)
WORKERS_AGREE: Final = Family(
    "vae_workers_agree",
    "gauge",
    (_WORKER,),
    "0 when another living worker has served other bundles than this one for some seconds, else 1.",
)
LOG_LINES_LOST: Final = Family("vae_log_lines_lost", "counter", (), "Log lines that could not be written.")
HEARTBEAT: Final = Family(
    "vae_worker_heartbeat_timestamp_seconds",
    "gauge",
    (_WORKER,),
    "When the worker last refreshed its gauges, in seconds since 1970. It does so every second.",
)
CPU: Final = Family(
    "vae_process_cpu_seconds",
    "counter",
    (_WORKER,),
    "User and system CPU seconds of the workers of this number, one after another.",
)
RSS: Final = Family("vae_process_resident_memory_bytes", "gauge", (_WORKER,), "Resident memory of the worker.")
OPEN_FDS: Final = Family("vae_process_open_fds", "gauge", (_WORKER,), "Open file descriptors of the worker.")
MAX_FDS: Final = Family("vae_process_max_fds", "gauge", (_WORKER,), "How many file descriptors the worker may open.")
START_TIME: Final = Family(
    "vae_process_start_time_seconds", "gauge", (_WORKER,), "When the worker started, in seconds since 1970."
)

FAMILIES: Final = (
    REQUESTS,
    REQUEST_DURATION,
    STAGE_DURATION,
    BATCH_SIZE,
    IMAGES,
    REJECTED,
    CONNECTIONS_CLOSED,
    QUEUE_DEPTH,
    READY,
    MODEL_INFO,
    MODELS_HASH,
    WORKERS_AGREE,
    LOG_LINES_LOST,
    HEARTBEAT,
    CPU,
    RSS,
    OPEN_FDS,
    MAX_FDS,
    START_TIME,
)


_BY_NAME: Final = {family.name: family for family in FAMILIES}


def key_of(family: Family, values: Sequence[str]) -> str:
    """The key of the cells of one set of label values, without the worker's number."""
    return json.dumps([family.name, *values])


def is_gauge(key: str) -> bool:
    """Whether the cell of this key is a gauge. A gauge is only valid while the worker that wrote it is alive."""
    return _BY_NAME[json.loads(key)[0]].kind == "gauge"


def exposition(snapshots: Sequence[Snapshot], accept: str) -> tuple[bytes, str]:
    """All metrics as OpenMetrics or Prometheus' text, as the Accept header asks, and the media type."""
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # an invalid version in the header
        encode, media_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return encode(_Collected(snapshots)), media_type


class _Collected:
    """The metrics of the snapshots, as a collector of prometheus-client."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Every metric, also those without samples."""
        by_name: dict[str, dict[tuple[str, ...], list[float]]] = {family.name: {} for family in FAMILIES}
        for family, labels, cells in _labelled(self._snapshots):
            known = by_name[family.name].get(labels)
            if known is None:
                by_name[family.name][labels] = cells
            elif family.kind == "gauge":
                known[0] = max(known[0], cells[0])
            else:
                by_name[family.name][labels] = [one + other for one, other in zip(known, cells, strict=True)]
        for family in FAMILIES:
            yield _metric(family, sorted(by_name[family.name].items()))
        yield InfoMetricFamily("vae_build", "Versions of the service and of what it runs on.", _build())


def _labelled(snapshots: Iterable[Snapshot]) -> Iterator[tuple[Family, tuple[str, ...], list[float]]]:
    """All cells that are valid, with the values of their labels."""
    for snapshot in snapshots:
        for key, cells in snapshot.cells.items():
            name, *values = json.loads(key)
            family = _BY_NAME[name]
            if family.kind == "gauge" and (not snapshot.living or math.isnan(cells[0])):
                continue
            labels = (*values, str(snapshot.worker)) if _WORKER in family.labels else tuple(values)
            yield family, labels, cells


def _metric(family: Family, samples: list[tuple[tuple[str, ...], list[float]]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (total, *counts) in samples:
            buckets, below = [], 0.0
            for bound, number in zip((*family.bounds, math.inf), counts, strict=True):
                below += number
                buckets.append(("+Inf" if bound == math.inf else repr(bound), below))
            histogram.add_metric(labels, buckets, total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in samples:
        metric.add_metric(labels, value)
    return metric


def _build() -> dict[str, str]:
    return {
        "version": version("vae-service"),
        "python": platform.python_version(),
        "onnxruntime": _first_version("onnxruntime", "onnxruntime-gpu"),
    }


def _first_version(*distributions: str) -> str:
    """The version of the distribution that is installed. All of them contain the same module."""
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"
