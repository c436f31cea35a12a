from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from harness.records import Lines, encoded_two, record
from service.api.context import RequestContext
from service.telemetry.logs import LogWriter, RequestLog
from service.telemetry.metrics import Metrics
from service.telemetry.observer import Observer
from service.telemetry.tracing import Tracing

RECORDS = {
    "a verb that was answered": encoded_two(),
    "a verb that was refused": record(status=503, rejection="queue_full"),
    "a GET": record("GET", "/models/{name}"),
    "a path that is no route": record("GET", "unmatched", 404),
    "what is not HTTP": record("other", "unmatched", 400),
}


@pytest.mark.parametrize("told", RECORDS.values(), ids=RECORDS.keys())
def test_each_request_is_counted_once_logged_once_and_traced_once(
    monkeypatch: pytest.MonkeyPatch, told: RequestContext
) -> None:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    metrics, lines, spans = Metrics(), Lines(), InMemorySpanExporter()
    tracing = Tracing(spans)
    Observer(metrics, RequestLog(LogWriter(lines), "json"), tracing).observe(told, {})
    tracing.close()

    expected = {"method": told.method, "route": told.route, "status": str(told.status)}
    samples: list[Any] = [
        sample
        for family in text_string_to_metric_families(metrics.exposition()[0].decode())
        for sample in family.samples
    ]
    assert [(each.labels, each.value) for each in samples if each.name == "vae_requests_total"] == [(expected, 1)]
    rejected = [each.labels["reason"] for each in samples if each.name == "vae_rejected_total"]
    assert rejected == ([told.rejection] if told.rejection else [])

    (line,) = lines.lines
    assert {name: str(json.loads(line)[name]) for name in expected} == expected

    (whole,) = [span for span in spans.get_finished_spans() if span.parent is None]
    assert whole.name == f"{told.method} {told.route}"
