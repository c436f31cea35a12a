from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from harness.paths import ROOT
from harness.records import encoded_two, record
from service.errors import TracingUnavailable
from service.telemetry.tracing import Tracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove OpenTelemetry's variables from the environment of the tests."""
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def spans_of(status: int = 200, headers: Mapping[bytes, bytes] | None = None) -> dict[str, ReadableSpan]:
    """The spans of one request, by name."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    tracing.request(headers or {}, encoded_two(status=status))
    tracing.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_request_is_a_span_with_its_stages_in_it() -> None:
    before = time.time_ns()
    spans = spans_of()
    request = spans.pop("POST /encode")
    assert request.kind is SpanKind.SERVER
    assert request.end_time is not None
    assert before <= request.end_time <= time.time_ns()
    assert seconds(request) == pytest.approx(70e-6)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/encode",
        "http.response.status_code": 200,
        "vae.request_id": "abc",
        "vae.model": "mnist-mlp@1",
        "vae.images": 2,
    }
    assert {name: round(seconds(span), 9) for name, span in spans.items()} == {
        "read": 12e-6,
        "queue": 2e-6,
        "compute": 34e-6,
        "write": 13e-6,
    }
    at = request.start_time
    for span in spans.values():
        assert span.parent == request.context
        assert span.start_time == at
        at = span.end_time
    assert at is not None
    assert at <= request.end_time


def test_a_server_error_marks_the_span_and_a_client_error_does_not() -> None:
    assert spans_of(status=500)["POST /encode"].status.status_code is StatusCode.ERROR
    assert spans_of(status=422)["POST /encode"].status.status_code is StatusCode.UNSET


def test_a_clients_trace_is_continued() -> None:
    headers = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode(), b"tracestate": b"vendor=1"}
    spans = spans_of(headers=headers)
    request = spans["POST /encode"]
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.context.trace_state["vendor"] == "1"
    assert {span.context.trace_id for span in spans.values() if span.context} == {request.context.trace_id}


def test_a_client_that_does_not_sample_its_trace_gets_no_spans() -> None:
    assert not spans_of(headers={b"traceparent": f"00-{TRACE}-{PARENT}-00".encode()})


@pytest.mark.parametrize(
    "header", [b"", b"00", b"\xff\xfe", f"00-{'0' * 32}-{PARENT}-01".encode(), b"a" * 10_000, b"00-x-y-01\r\n"]
)
def test_an_invalid_traceparent_starts_a_new_trace(header: bytes) -> None:
    request = spans_of(headers={b"traceparent": header})["POST /encode"]
    assert request.parent is None


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans_of()["POST /encode"].resource.attributes["service.name"] == "vae-service"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    attributes = spans_of()["POST /encode"].resource.attributes
    assert attributes["service.name"] == "digits"
    assert attributes["deployment.environment"] == "test"
    assert attributes["service.version"]


def test_the_environment_chooses_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert not spans_of()


@pytest.mark.parametrize(("exporter", "spans"), [("console", 1), ("none", 0), ("console, none", 1)])
def test_the_environment_chooses_the_exporter(exporter: str, spans: int) -> None:
    code = """
from service.telemetry.tracing import Tracing
from harness.records import record
tracing = Tracing()
tracing.request({}, record("GET", "/models"))
tracing.close()
"""
    assert run(code, OTEL_TRACES_EXPORTER=exporter).count('"name": "GET /models"') == spans


def test_a_collector_that_cannot_be_reached_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # port 9, on which nothing listens
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing = Tracing()
    for _ in range(100):
        tracing.request({}, record("GET", "/models"))
    closing = threading.Thread(target=tracing.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


def test_an_exporter_that_hangs_keeps_no_request_waiting() -> None:
    exporting, let_go = threading.Event(), threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            exporting.set()
            assert let_go.wait(60)
            return super().export(spans)

    exporter = Stuck()
    tracing = Tracing(exporter)
    while not exporting.is_set():  # a full batch is sent at once
        tracing.request({}, record("GET", "/models"))
    for _ in range(10_000):  # more than are kept
        tracing.request({}, record("GET", "/models"))
    assert not exporter.get_finished_spans()
    let_go.set()
    tracing.close()
    assert exporter.get_finished_spans()


def run(code: str, **environment: str) -> str:
    """The output of a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_opentelemetry_is_imported_only_when_tracing_is_on() -> None:
    found = "[name for name in sys.modules if name.startswith('opentelemetry')]"
    code = f"import sys, service.telemetry.tracing; print(*{found})"
    assert run(code).split() == []
    code = "import sys, service.__main__; print('opentelemetry.sdk' in sys.modules, 'requests' in sys.modules)"
    assert run(code).split() == ["False", "False"]


def test_tracing_without_opentelemetry_is_refused_in_one_sentence() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from service.errors import TracingUnavailable
from service.telemetry.tracing import Tracing
try:
    Tracing()
except TracingUnavailable as error:
    print(error)
"""
    sentence = "Tracing is asked for, but OpenTelemetry is not installed: pip install 'vae-service[tracing]'.\n"
    assert run(code) == sentence


@pytest.mark.parametrize("environment", [{"OTEL_TRACES_EXPORTER": "pigeon"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "pigeon"}])
def test_a_missing_exporter_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, content in environment.items():
        monkeypatch.setenv(name, content)
    with pytest.raises(TracingUnavailable, match=r"^Tracing is asked for, but .*pigeon.* installed\.$"):
        Tracing()
