from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import signal
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.telemetry import cells, families
from service.telemetry.cells import shared_directory
from service.telemetry.metrics import UNMATCHED, Metrics, Sources

ROOT = Path(__file__).parents[3]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families  # has no types

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    """What a worker exposes: every sample's value by name and labels."""
    return samples_of(metrics.exposition()[0].decode())


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: object) -> float | None:
    return samples.get((name, frozenset((label, str(content)) for label, content in labels.items())))


def sources(**other: Any) -> Sources:
    given: dict[str, Any] = {
        "queue_depth": lambda: 3,
        "ready": lambda: True,
        "models": lambda: [("mnist-mlp", 1, "CPUExecutionProvider")],
        "log_lines_lost": lambda: 0,
    }
    return Sources(**(given | other))


def answer_one(metrics: Metrics) -> None:
    metrics.answered(
        "/encode", "mnist-mlp@1", 2, 70e-6, read=12e-6, queue=2e-6, compute=34e-6, write=13e-6
    )  # adds up to less: the rest is between the stages


class Worker:
    """A process that shares a directory, counts what it is told to, and says what it exposes."""

    CODE = """
import sys
from pathlib import Path
from service.telemetry.metrics import Metrics, Sources
metrics = Metrics(Path(sys.argv[1]))
metrics.watch(Sources(lambda: 7, lambda: True, lambda: [(sys.argv[2], 1, "CPU")], lambda: 0))
print("up", flush=True)
for line in sys.stdin:
    if line == "scrape\\n":
        text = metrics.exposition()[0]
        print(len(text.decode()), flush=True)
        print(text.decode(), end="", flush=True)
    else:
        for _ in range(int(line)):
            metrics.answered("/encode", "m@1", 1, 1e-4, 1e-5, 1e-6, 3e-5, 1e-5)
            metrics.batch("m@1", "encode", 4)
        metrics.rejected("deadline")
        print("counted", flush=True)
"""

    def __init__(self, directory: Path, model: str = "m") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(directory), model],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "up"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, word: object) -> None:
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)

    def count(self, requests: int) -> None:
        self.tell(requests)
        assert self.line() == "counted"

    def scrape(self) -> Samples:
        self.tell("scrape")
        length = int(self.line())
        assert self.process.stdout is not None
        return samples_of(self.process.stdout.read(length))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory() -> Iterator[Path]:
    with shared_directory() as directory:
        yield directory


@pytest.fixture
def start_worker(directory: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers that share a directory."""
    with contextlib.ExitStack() as stack:

        def start(model: str = "m") -> Worker:
            worker = Worker(directory, model)
            stack.callback(worker.close)
            return worker

        yield start


def total_of(samples: Samples) -> tuple[float | None, ...]:
    """Each of the counts that a worker's `count` adds to."""
    return (
        value(samples, "vae_requests_total", route="/encode", method="POST", status=200),
        value(samples, "vae_request_duration_seconds_count", route="/encode"),
        value(samples, "vae_stage_duration_seconds_count", route="/encode", stage="compute"),
        value(samples, "vae_images_total", model="m@1", verb="encode"),
        value(samples, "vae_batch_size_images_count", model="m@1", run="encode"),
    )


class TestOneProcess:
    """Without a directory."""

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
        served = [("a", 1, "CPU"), ("b", 2, "CUDA")]
        metrics = Metrics()
        metrics.watch(sources(models=lambda: served))
        assert value(scrape(metrics), "vae_model_info", name="b", version=2, provider="CUDA") == 1
        del served[1]
        found = scrape(metrics)
        assert value(found, "vae_model_info", name="b", version=2, provider="CUDA") is None
        assert value(found, "vae_model_info", name="a", version=1, provider="CPU") == 1

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


class TestWorkers:
    """Several processes that share a directory."""

    def test_whichever_worker_answers_the_scrape_the_counts_are_all_workers(
        self, start_worker: Callable[..., Worker]
    ) -> None:
        workers = [start_worker() for _ in range(3)]
        for number, worker in enumerate(workers):
            worker.count(100 * 10**number)
        for worker in workers:
            found = worker.scrape()
            assert total_of(found) == (11100,) * 5
            assert value(found, "vae_rejected_total", reason="deadline") == 3
            assert value(found, "vae_batch_size_images_sum", model="m@1", run="encode") == 44400
            for number in range(3):
                assert value(found, "vae_queue_depth_images", worker=number) == 7

    def test_a_killed_workers_counts_stay_and_its_gauges_vanish(self, start_worker: Callable[..., Worker]) -> None:
        first, second = start_worker("a"), start_worker("b")
        first.count(50)
        second.count(5)
        before = first.scrape()
        second.kill()
        after = first.scrape()
        assert total_of(after) == (55,) * 5
        assert value(before, "vae_ready", worker=1) == 1
        assert not [name for name, labels in after if ("worker", "1") in labels and not name.endswith("_total")]
        assert value(before, "vae_model_info", name="b", version=1, provider="CPU") == 1
        assert value(after, "vae_model_info", name="b", version=1, provider="CPU") is None

    def test_its_successor_counts_on(self, start_worker: Callable[..., Worker], directory: Path) -> None:
        first, second = start_worker(), start_worker()
        first.count(50)
        second.count(5)
        for lives in range(1, 4):
            before = first.scrape()
            second.kill()
            second = start_worker()
            second.count(5)
            for worker in (first, second):
                after = worker.scrape()
                assert total_of(after) == (55 + 5 * lives,) * 5
                for key, number in before.items():
                    if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
                        assert after[key] >= number, key
        assert len(list(directory.iterdir())) == 2

    def test_its_successor_does_not_inherit_its_gauges(self, start_worker: Callable[..., Worker]) -> None:
        start_worker("old").kill()
        found = start_worker("new").scrape()
        assert value(found, "vae_model_info", name="new", version=1, provider="CPU") == 1
        assert value(found, "vae_model_info", name="old", version=1, provider="CPU") is None

    def test_a_worker_killed_while_it_counts_loses_nothing_that_it_had_said(
        self, start_worker: Callable[..., Worker]
    ) -> None:
        reader, victim = start_worker(), start_worker()
        for times in range(1, 6):
            victim.count(1000)
            victim.tell(10**9)  # and dies at it
            while (total_of(reader.scrape())[0] or 0) <= 1000 * times:
                pass
            victim.kill()
            found = total_of(reader.scrape())
            # One process counts a request's metrics one after the other: at most one is half done.
            assert max(map(float, filter(None, found))) - min(map(float, filter(None, found))) <= times
            assert found == total_of(reader.scrape())
            victim = start_worker()
            assert found == total_of(reader.scrape())

    def test_all_workers_dead_and_started_again_go_on(self, start_worker: Callable[..., Worker]) -> None:
        for lives in range(1, 4):
            worker = start_worker()
            worker.count(10)
            assert total_of(worker.scrape()) == (10 * lives,) * 5
            worker.kill()

    def test_a_stillborn_workers_file_is_no_obstacle(
        self, start_worker: Callable[..., Worker], directory: Path
    ) -> None:
        (directory / "0.cells").write_bytes(b"")
        (directory / "1.cells").write_bytes(bytes(100))
        reader = start_worker()
        reader.count(3)
        assert total_of(reader.scrape()) == (3,) * 5
        assert value(start_worker().scrape(), "vae_ready", worker=1) == 1

    def test_the_directory_is_gone_with_the_supervisor(self) -> None:
        with shared_directory() as directory:
            metrics = Metrics(directory)
            assert directory.stat().st_mode & 0o77 == 0
        answer_one(metrics)  # a worker that outlives it does no harm
        assert not directory.exists()
        assert value(scrape(metrics), "vae_images_total", model="mnist-mlp@1", verb="encode") == 2

    def test_where_there_is_no_shared_memory_the_usual_temporary_folder_will_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cells, "_SHARED", tmp_path / "nowhere")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with shared_directory() as directory:
            assert directory.parent == tmp_path


class TestExposition:
    """What Prometheus reads."""

    def test_both_formats_parse_and_say_the_same(self) -> None:
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
    def test_any_accept_header_gets_an_answer(self, accept: str) -> None:
        text, media_type = Metrics().exposition(accept)
        assert b"vae_build_info" in text
        assert media_type.isascii()
        assert media_type.isprintable()

    def test_any_label_value_comes_back_as_it_was(self) -> None:
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

    def test_half_a_surrogate_pair_spoils_no_scrape(self) -> None:
        metrics = Metrics()
        metrics.request("/\ud800", "GET", 200, 1e-3)
        assert value(scrape(metrics), "vae_requests_total", route="/?", method="GET", status=200) == 1

    def test_an_unknown_method_is_other(self) -> None:
        metrics = Metrics()
        for method in ("BREW", "PROPFIND", "get"):
            metrics.request(UNMATCHED, method, 405, 1e-3)
        assert value(scrape(metrics), "vae_requests_total", route=UNMATCHED, method="other", status=405) == 3

    @pytest.mark.parametrize(("count", "length"), [(2000, 10), (20, 100_000)])
    def test_labels_that_never_end_take_bounded_memory_and_no_count_is_lost(self, count: int, length: int) -> None:
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


def test_counting_a_request_takes_microseconds() -> None:
    """Generous: a loaded machine must pass, a lock or a system call must not. `python -m bench.counting` measures."""
    metrics = Metrics()
    assert min(timeit.repeat(lambda: answer_one(metrics), number=200, repeat=50)) / 200 < 10e-6
