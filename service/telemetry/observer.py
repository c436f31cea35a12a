"""The one place that observes requests: each answered request is counted, logged and traced here, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.telemetry.logs import RequestLog
from service.telemetry.metrics import Metrics
from service.telemetry.record import Record
from service.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Observer:
    """Hands each request to all who keep something of it. `request_log` and `tracing` are None when switched off."""

    metrics: Metrics
    request_log: RequestLog | None = None
    tracing: Tracing | None = None

    def observe(self, record: Record, headers: Mapping[bytes, bytes]) -> None:
        """Count, log and trace one request that has just been answered. `headers` are the request's, in lower case."""
        if record.model and record.status == 200:
            self.metrics.answered(
                record.route, record.model, record.images, record.seconds,
                record.read, record.queue, record.compute, record.write,
            )  # fmt: skip
        else:
            self.metrics.request(record.route, record.method, record.status, record.seconds)
            if record.rejection:
                self.metrics.rejected(record.rejection)
        if self.request_log is not None:
            self.request_log.write(record)
        if self.tracing is not None:
            self.tracing.request(headers, record)
