"""Helpers for tests of metrics: count a request, and read values from the exposition."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import Metrics, Sources

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    """The exposition of a worker: the value of every sample, by name and labels."""
    return samples_of(metrics.exposition()[0].decode())


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: object) -> float | None:
    return samples.get((name, frozenset((label, str(content)) for label, content in labels.items())))


def sources(**other: Any) -> Sources:
    given: dict[str, Any] = {
        "queue_depth": lambda: 3,
        "ready": lambda: True,
        "models": lambda: [("mnist-mlp", 1, "CPUExecutionProvider", "0123456789ab")],
        "models_hash": lambda: 1,
        "log_lines_lost": lambda: 0,
    }
    return Sources(**(given | other))


def answer_one(metrics: Metrics) -> None:
    metrics.answered(
        "/encode", "mnist-mlp@1", 2, 70e-6, read=12e-6, queue=2e-6, compute=34e-6, write=13e-6
    )  # the stages add up to less than the whole: there is time between them
