from __future__ import annotations

import asyncio
import contextlib
import math
import re
import sys

import pytest

from harness.paths import ROOT
from service.errors import VaeError
from service.telemetry import families
from service.telemetry.metrics import STAGES, Metrics
from tests.service.telemetry.samples import answer_one, scrape, sources, value


class TestOneProcess:
    """Metrics without a shared directory."""

    def test_an_answered_verb_is_counted_in_all_of_its_metrics(self) -> None:
        metrics = Metrics()
        answer_one(metrics)
        answer_one(metrics)
        found = scrape(metrics)
        assert value(found, "vae_requests_total", route="/encode", method="POST", status=200) == 2
        assert value(found, "vae_images_total", model="mnist-mlp@1", verb="encode") == 4
        assert value(found, "vae_request_duration_seconds_sum", route="/encode") == pytest.approx(140e-6)
        for stage, seconds in {"read": 24e-6, "queue": 4e-6, "compute": 68e-6, "write": 26e-6}.items():
            assert value(found, "vae_stage_duration_seconds_count", route="/encode", stage=stage) == 2
            assert value(found, "vae_stage_duration_seconds_sum", route="/encode", stage=stage) == pytest.approx(
                seconds
            )

    def test_a_refusal_and_a_request_of_another_route_are_counted_by_status(self) -> None:
        metrics = Metrics()
        answer_one(metrics)
        metrics.request("/encode", "POST", 422, 1e-3)
        metrics.request("/models/{name}", "GET", 200, 1e-3)
        found = scrape(metrics)
        assert value(found, "vae_requests_total", route="/encode", method="POST", status=422) == 1
        assert value(found, "vae_requests_total", route="/models/{name}", method="GET", status=200) == 1
        assert value(found, "vae_request_duration_seconds_count", route="/encode") == 2
        assert value(found, "vae_stage_duration_seconds_count", route="/encode", stage="read") == 1

    def test_runs_and_rejections_are_counted(self) -> None:
        metrics = Metrics()
        for rows in (1, 2, 3, 5000):
            metrics.batch("m@1", "encode", rows)
        metrics.rejected("queue_full")
        found = scrape(metrics)
        for bound, runs in {"1.0": 1, "2.0": 2, "4.0": 3, "4096.0": 3, "+Inf": 4}.items():
            assert value(found, "vae_batch_size_images_bucket", model="m@1", run="encode", le=bound) == runs
        assert value(found, "vae_batch_size_images_sum", model="m@1", run="encode") == 5006
        assert value(found, "vae_rejected_total", reason="queue_full") == 1

    @pytest.mark.parametrize(
        ("seconds", "bound"),
        [(0.0, "5e-05"), (50e-6, "5e-05"), (50.1e-6, "7.5e-05"), (10.0, "10.0"), (10.1, "+Inf"), (math.inf, "+Inf")],
    )
    def test_a_bucket_holds_what_is_up_to_its_bound(self, seconds: float, bound: str) -> None:
        metrics = Metrics()
        metrics.request("/livez", "GET", 200, seconds)
        found = scrape(metrics)
        bounds = [*map(repr, families.DURATION_BOUNDS), "+Inf"]
        counts = [value(found, "vae_request_duration_seconds_bucket", route="/livez", le=name) for name in bounds]
        assert counts == [float(place >= bounds.index(bound)) for place in range(len(bounds))]

    def test_gauges_are_asked_for_at_the_scrape(self) -> None:
        waiting = [3]
        metrics = Metrics()
        assert value(scrape(metrics), "vae_ready", worker=0) is None
        metrics.watch(sources(queue_depth=lambda: waiting[0], ready=lambda: not waiting[0]))
        assert value(scrape(metrics), "vae_queue_depth_images", worker=0) == 3
        assert value(scrape(metrics), "vae_ready", worker=0) == 0
        waiting[0] = 0
        assert value(scrape(metrics), "vae_queue_depth_images", worker=0) == 0
        assert value(scrape(metrics), "vae_ready", worker=0) == 1

    def test_a_model_that_is_gone_is_gone_from_the_info(self) -> None:
        served = [("a", 1, "CPU", "aa"), ("b", 2, "CUDA", "bb")]
        a = {"name": "a", "version": 1, "provider": "CPU", "identity": "aa", "worker": 0}
        b = {"name": "b", "version": 2, "provider": "CUDA", "identity": "bb", "worker": 0}
        metrics = Metrics()
        metrics.watch(sources(models=lambda: served))
        assert value(scrape(metrics), "vae_model_info", **b) == 1
        del served[1]
        found = scrape(metrics)
        assert value(found, "vae_model_info", **b) is None
        assert value(found, "vae_model_info", **a) == 1

    def test_lost_log_lines_are_counted_once(self) -> None:
        metrics = Metrics()
        metrics.watch(sources(log_lines_lost=lambda: 5))
        scrape(metrics)
        assert value(scrape(metrics), "vae_log_lines_lost_total") == 5

    def test_the_process_and_what_it_runs_on_are_described(self) -> None:
        found = scrape(Metrics())
        (build,) = [dict(labels) for name, labels in found if name == "vae_build_info"]
        assert build["python"] == ".".join(map(str, sys.version_info[:3]))
        assert set(build) == {"version", "python", "onnxruntime"}
        assert "unknown" not in build.values()
        for name in ("resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds", "cpu_seconds_total"):
            number = value(found, f"vae_process_{name}", worker=0)
            assert number is not None
            assert number > 0

    def test_gauges_are_kept_fresh_until_the_task_is_cancelled(self) -> None:
        asked = []

        def waiting() -> int:
            asked.append(1)
            return 0

        metrics = Metrics()
        metrics.watch(sources(queue_depth=waiting))

        async def live() -> None:
            task = asyncio.create_task(metrics.keep_fresh())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        before = len(asked)
        asyncio.run(live())
        assert len(asked) == before + 1


def test_the_document_lists_the_metrics_that_are_exposed_and_no_others() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text()
    listed = re.findall(r"^\| `(vae_\w+)` \| (\w+) \|([^|]*)\|", document, re.MULTILINE)
    exposed = {
        (family.name + ("_total" if family.kind == "counter" else ""), family.kind, family.labels)
        for family in families.FAMILIES
    }
    described = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in listed}
    assert described == {*exposed, ("vae_build_info", "gauge", ("onnxruntime", "python", "version"))}
    for name in set(re.findall(r"\bvae_\w+", document)):
        assert name in {known for known, _, _ in described} | {
            f"{family.name}_{part}"
            for family in families.FAMILIES
            if family.kind == "histogram"
            for part in ("bucket", "sum", "count")
        }


def test_the_document_lists_the_reasons_for_which_requests_are_rejected_and_no_others() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text()
    table = document.split("| reason | |\n|---|---|\n")[1].split("\n\n")[0]
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    raised = re.findall(r"Overloaded\([^)]*\"(\w+)\"\)", source)
    fixed = [error.rejection for error in VaeError.__subclasses__() if error.rejection]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted({*raised, *fixed})


def test_the_document_names_the_stages() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text()
    sentence = document.split("`stage` is ")[1].split(";")[0]
    assert tuple(re.findall(r"`(\w+)`", sentence)) == STAGES
