"""The text that Prometheus scrapes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.telemetry import cells
from service.telemetry.metrics import UNMATCHED, Metrics
from tests.service.telemetry.samples import answer_one, samples_of, scrape, sources, value

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families  # has no types


def test_both_formats_parse_and_say_the_same() -> None:
    metrics = Metrics()
    metrics.watch(sources())
    answer_one(metrics)
    metrics.batch("m@1", "encode", 1)
    metrics.rejected("deadline")
    text, media_type = metrics.exposition()
    assert media_type.startswith("text/plain; version=0.0.4")
    openmetrics, media_type = metrics.exposition(OPENMETRICS)
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = {
        (sample.name, frozenset(sample.labels.items()))
        for family in parse_openmetrics(openmetrics.decode())
        for sample in family.samples
    }
    assert parsed == set(samples_of(text.decode()))


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/openmetrics-text",
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=1.0.0; escaping=nonsense",
        "application/openmetrics-text; version=99.0.0,text/plain;q=0.1",
        "text/plain; version=;;=,,",
        "text/plain; version=1..0",
        "\x00\xff",
    ],
)
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    text, media_type = Metrics().exposition(accept)
    assert b"vae_build_info" in text
    assert media_type.isascii()
    assert media_type.isprintable()


def test_any_label_value_comes_back_as_it_was() -> None:
    values = random.Random(4)
    alphabet = 'abc/{}"\\\n\r\t\0,= #é☃\U0001f600\u2028\x85'
    routes = {"".join(values.choices(alphabet, k=values.randrange(12))) for _ in range(100)}
    metrics = Metrics()
    for route in routes:
        metrics.request(route, "GET", 200, 1e-3)
        metrics.answered(route, route, 1, *[1e-3] * 5)
    for form, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
        found = {
            sample.labels["route"]
            for family in parse(metrics.exposition(form)[0].decode())
            for sample in family.samples
            if sample.name == "vae_requests_total"
        }
        assert found == routes


def test_a_lone_surrogate_does_not_break_the_scrape() -> None:
    metrics = Metrics()
    metrics.request("/\ud800", "GET", 200, 1e-3)
    assert value(scrape(metrics), "vae_requests_total", route="/?", method="GET", status=200) == 1


def test_an_unknown_method_is_other() -> None:
    metrics = Metrics()
    for method in ("BREW", "PROPFIND", "get"):
        metrics.request(UNMATCHED, method, 405, 1e-3)
    assert value(scrape(metrics), "vae_requests_total", route=UNMATCHED, method="other", status=405) == 3


@pytest.mark.parametrize(("count", "length"), [(2000, 10), (20, 100_000)])
def test_very_many_labels_take_bounded_memory_and_no_count_is_lost(count: int, length: int) -> None:
    metrics = Metrics()
    for number in range(count):
        metrics.request(f"/{number:0{length}}", "GET", 200, 1e-3)
        metrics.answered(f"/{number}", f"{number}", 1, *[1e-3] * 5)
        metrics.batch(f"{number}", "encode", 1)
    metrics.rejected("queue_full" * 100_000)
    found = scrape(metrics)
    assert sum(number for (name, _), number in found.items() if name == "vae_requests_total") == 2 * count
    assert sum(number for (name, _), number in found.items() if name == "vae_images_total") == count
    assert value(found, "vae_rejected_total", reason="other") == 1
    assert len(found) < cells.SIZE / 8
    metrics.watch(sources())
    assert value(scrape(metrics), "vae_ready", worker=0) == 1
