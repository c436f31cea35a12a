from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.servers import wait_for
from service.telemetry import cells
from service.telemetry.cells import shared_directory
from service.telemetry.metrics import Metrics
from tests.service.telemetry.samples import Samples, answer_one, samples_of, scrape, value


class Worker:
    """A process that shares a directory. It counts requests and returns its exposition on command."""

    CODE = """
import sys
from pathlib import Path
from service.telemetry.metrics import Metrics, Sources
metrics = Metrics(Path(sys.argv[1]))
metrics.watch(Sources(lambda: 7, lambda: True, lambda: [(sys.argv[2], 1, "CPU", "ab")], lambda: 1, lambda: 0))
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
    """A function that starts workers which share a directory."""
    with contextlib.ExitStack() as stack:

        def start(model: str = "m") -> Worker:
            worker = Worker(directory, model)
            stack.callback(worker.close)
            return worker

        yield start


def total_of(samples: Samples) -> tuple[float | None, ...]:
    """The values of all metrics that `Worker.count` increases."""
    return (
        value(samples, "vae_requests_total", route="/encode", method="POST", status=200),
        value(samples, "vae_request_duration_seconds_count", route="/encode"),
        value(samples, "vae_stage_duration_seconds_count", route="/encode", stage="compute"),
        value(samples, "vae_images_total", model="m@1", verb="encode"),
        value(samples, "vae_batch_size_images_count", model="m@1", run="encode"),
    )


def info(samples: Samples, **labels: object) -> float | None:
    """The value of vae_model_info with these and the usual labels."""
    return value(samples, "vae_model_info", **({"version": 1, "provider": "CPU", "identity": "ab"} | labels))


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
        assert info(before, name="b", worker=1) == 1
        assert info(after, name="b", worker=1) is None

    def test_the_next_worker_continues_its_counts(self, start_worker: Callable[..., Worker], directory: Path) -> None:
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

    def test_the_next_worker_does_not_inherit_its_gauges(self, start_worker: Callable[..., Worker]) -> None:
        start_worker("old").kill()
        found = start_worker("new").scrape()
        assert info(found, name="new", worker=0) == 1
        assert info(found, name="old", worker=0) is None

    def test_a_worker_killed_while_it_counts_loses_no_count_that_it_had_reported(
        self, start_worker: Callable[..., Worker]
    ) -> None:
        reader, victim = start_worker(), start_worker()
        for times in range(1, 6):
            victim.count(1000)
            victim.tell(10**9)  # it is killed before it has finished
            wait_for(lambda times=times: (total_of(reader.scrape())[0] or 0) > 1000 * times)  # type: ignore[misc]
            victim.kill()
            found = total_of(reader.scrape())
            # A process counts the metrics of a request one after the other: at most one request is incomplete.
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

    def test_unfinished_files_of_workers_are_taken_over(
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
        answer_one(metrics)  # a worker that still runs can go on counting
        assert not directory.exists()
        assert value(scrape(metrics), "vae_images_total", model="mnist-mlp@1", verb="encode") == 2

    def test_without_shared_memory_the_temporary_folder_is_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cells, "_SHARED", tmp_path / "nowhere")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with shared_directory() as directory:
            assert directory.parent == tmp_path
