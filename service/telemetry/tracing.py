"""OpenTelemetry traces, an optional extra: a span for each request, with a child span for each stage.

OpenTelemetry's own variables say where the spans go: OTEL_TRACES_EXPORTER (otlp by default; console; none; or several),
OTEL_EXPORTER_OTLP_ENDPOINT and the like, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_SDK_DISABLED. The SDK is imported when a `Tracing` is made, not with this module. The spans of a request are made
after its answer, from times that are measured in any case. A thread of the SDK sends them, and drops those it cannot
send.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Final

from service.errors import TracingUnavailable
from service.telemetry.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_SERVICE: Final = "vae-service"
_CONTEXT_HEADERS: Final = ("traceparent", "tracestate")
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class Tracing:
    """Makes spans and has them sent. While tracing is off, there is None in place of this object."""

    def __init__(self, *exporters: SpanExporter) -> None:
        """Send spans to `exporters`, or if none are given, to those that the environment names.

        Raises TracingUnavailable when OpenTelemetry or the exporter is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.context import Context
            from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise TracingUnavailable(
                "Tracing is asked for, but OpenTelemetry is not installed: pip install 'vae-service[tracing]'."
            ) from error
        resource = Resource.create({SERVICE_VERSION: version(_SERVICE)})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _SERVICE}))
        self._provider = TracerProvider(resource=resource)
        for exporter in exporters or _named_exporters():
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("service", version(_SERVICE))
        self._trace = trace
        self._nowhere = Context()
        self._propagator = TraceContextTextMapPropagator()

    def request(self, headers: Mapping[bytes, bytes], record: Record) -> None:
        """Make the spans of a request that has just been answered.

        The stages are placed one after the other. A request with two runs has one queue span and one compute span, each
        with the sum of both. If `headers` contain a trace context, the spans belong to that trace.
        """
        end = time.time_ns()
        at = end - round(record.seconds * 1e9)
        carrier = {
            name: headers[name.encode()].decode("latin-1") for name in _CONTEXT_HEADERS if name.encode() in headers
        }
        span = self._tracer.start_span(
            f"{record.method} {record.route}",
            self._propagator.extract(carrier, self._nowhere),
            self._trace.SpanKind.SERVER,
            {
                "http.request.method": record.method,
                "http.route": record.route,
                "http.response.status_code": record.status,
                "vae.request_id": record.request_id,
                "vae.images": record.images,
                **({"vae.model": record.model} if record.model else {}),
            },
            start_time=at,
        )
        if span.is_recording():
            if record.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
            inside = self._trace.set_span_in_context(span, self._nowhere)
            for stage, spent in (
                ("read", record.read),
                ("queue", record.queue),
                ("compute", record.compute),
                ("write", record.write),
            ):
                if spent:
                    child = self._tracer.start_span(stage, inside, start_time=at)
                    at += round(spent * 1e9)
                    child.end(at)
        span.end(end)

    def close(self) -> None:
        """Send the spans that are left, and stop."""
        self._provider.shutdown()


def _named_exporters() -> Iterator[SpanExporter]:
    """The exporters that OTEL_TRACES_EXPORTER names. Raises TracingUnavailable."""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        wanted = name.strip()
        if wanted == "none":
            continue
        if wanted == "otlp":
            wanted = _OTLP.get(protocol or "http/protobuf", f"otlp over {protocol}")
        found = entry_points(group="opentelemetry_traces_exporter", name=wanted)
        if not found:
            raise TracingUnavailable(f"Tracing is asked for, but there is no exporter {wanted!r} installed.")
        yield next(iter(found)).load()()
