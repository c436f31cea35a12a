"""The service as `docker compose up` starts it: what it serves, how versions roll, how it ends."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2 as httpx

from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.servers import wait_for
from tests.bundles import write_bundle
from tests.containers.conftest import Stack
from tests.containers.docker import run, started

DIGIT = {"images": [base64_png(digits()[0])]}


@contextmanager
def load(url: str, ask: Callable[[httpx.Client], None]) -> Iterator[None]:
    """Four clients that ask again and again until the block ends. What one of them raises is raised here."""
    stop = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                ask(client)

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(work) for _ in range(4)]
        try:
            yield
        finally:
            stop.set()
        for worker in workers:
            worker.result()


def test_it_serves_the_mounted_models(stack: Stack) -> None:
    listed = httpx.get(f"{stack.service.url}/models").json()
    assert listed["default"] == "mnist-mlp@2"
    assert listed["refused"] == {}


def test_a_new_version_in_the_mounted_folder_is_served_under_load_without_a_failed_request(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    staged = stack.models.parent / "staged"
    seen: list[str] = []

    def ask(client: httpx.Client) -> None:
        answer = client.post("/encode", json={**DIGIT, "model": "rolled"})
        assert answer.status_code == 200, answer.text
        seen.append(answer.json()["model"])

    def put(version: int) -> None:
        made = write_bundle(staged, "rolled", version, image_shape=(28, 28), latent_dim=20, seed=version)
        (stack.models / "rolled").mkdir(exist_ok=True)
        made.rename(stack.models / "rolled" / str(version))

    put(1)
    wait_for(lambda: httpx.get(f"{stack.service.url}/models/rolled").status_code == 200)
    with load(stack.service.url, ask):
        for version in (2, 3):
            put(version)
            wait_for(partial(lambda name: name in seen, f"rolled@{version}"))
    assert set(seen) == {"rolled@1", "rolled@2", "rolled@3"}
    shutil.rmtree(stack.models / "rolled")
    wait_for(lambda: httpx.get(f"{stack.service.url}/models/rolled").status_code == 404)
    measured(f"two versions rolled during {len(seen)} requests, none of which failed")


def test_a_stop_under_load_fails_no_request_and_is_a_clean_exit(image: str, measured: Callable[[str], None]) -> None:
    """The load behaves as a balancer does: it sends nothing more when /readyz says 503."""
    body = b'{"images": [' + b" " * 1000 + b'"%s"]}' % DIGIT["images"][0].encode()
    sent = request("/encode", body)
    answered: list[int] = []

    def ask(client: httpx.Client) -> None:
        answered.append(client.post("/encode", json=DIGIT).status_code)
        answered.append(client.post("/sample", json={"n": 256}).status_code)

    with started("--env", "VAE_DRAIN_PAUSE_SECONDS=600") as container, Connection(container.port) as unfinished:
        with load(container.url, ask):
            wait_for(lambda: len(answered) > 20)
            unfinished.send(sent[:1000])  # the rest comes while the service drains
            stop = subprocess.Popen(["docker", "stop", "--time", "600", container.name], stdout=subprocess.DEVNULL)
            wait_for(lambda: httpx.get(f"{container.url}/readyz").status_code == 503)
        unhealthy = container.shell("healthcheck && echo healthy")
        run("docker", "kill", "--signal", "TERM", container.name)  # a second signal ends the pause
        last = unfinished.ask(sent[1000:])
        assert stop.wait(60) == 0
        assert container.state["ExitCode"] == 0, container.log()
    assert '"ready":false' in unhealthy
    assert "healthy" not in unhealthy
    assert last.status == 200
    assert set(answered) == {200}
    measured(f"stopped during {len(answered) + 1} requests, all answered with 200; exit status 0")
