"""The service as `docker compose up` starts it: what it serves, how versions roll, how it ends."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2 as httpx

from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.servers import wait_for
from tests.bundles import write_bundle
from tests.containers.conftest import Stack
from tests.containers.docker import started

DIGIT = {"images": [base64_png(digits()[0])]}


def test_it_serves_the_mounted_models(stack: Stack) -> None:
    listed = httpx.get(f"{stack.service.url}/models").json()
    assert listed["default"] == "mnist-mlp@2"
    assert listed["refused"] == {}


def test_a_new_version_in_the_mounted_folder_is_served_under_load_without_a_failed_request(
    stack: Stack, measured: Callable[[str], None]
) -> None:
    stop = threading.Event()
    seen: list[str] = []

    def load() -> None:
        with httpx.Client(base_url=stack.service.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/encode", json={**DIGIT, "model": "rolled"})
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["model"])

    def put(version: int) -> None:
        made = write_bundle(
            stack.models.parent / "staged", "rolled", version, image_shape=(28, 28), latent_dim=20, seed=version
        )
        (stack.models / "rolled").mkdir(exist_ok=True)
        made.rename(stack.models / "rolled" / str(version))

    put(1)
    wait_for(lambda: httpx.get(f"{stack.service.url}/models/rolled").status_code == 200)
    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(load) for _ in range(4)]
        for version in (2, 3):
            put(version)
            wait_for(partial(lambda name: name in seen, f"rolled@{version}"))
        stop.set()
        for done in loads:
            done.result()
    assert set(seen) == {"rolled@1", "rolled@2", "rolled@3"}
    shutil.rmtree(stack.models / "rolled")
    wait_for(lambda: httpx.get(f"{stack.service.url}/models/rolled").status_code == 404)
    measured(f"two versions rolled during {len(seen)} requests, none of which failed")


def test_a_stop_under_load_fails_no_request_and_is_a_clean_exit(image: str, measured: Callable[[str], None]) -> None:
    """The load behaves as a balancer does: it sends nothing more when /readyz says 503."""
    sent = request("/encode", b'{"images": [' + b" " * 1000 + b'"%s"]}' % DIGIT["images"][0].encode())
    stop = threading.Event()
    answered: list[int] = []

    with started("--env", "VAE_DRAIN_PAUSE_SECONDS=3") as container, Connection(container.port) as unfinished:

        def load() -> None:
            with httpx.Client(base_url=container.url, timeout=60) as client:
                while not stop.is_set():
                    answered.append(client.post("/encode", json=DIGIT).status_code)
                    answered.append(client.post("/sample", json={"n": 256}).status_code)

        with ThreadPoolExecutor(4) as threads:
            loads = [threads.submit(load) for _ in range(4)]
            wait_for(lambda: len(answered) > 20)
            unfinished.send(sent[:1000])  # the rest comes while the service drains
            with subprocess.Popen(
                ["docker", "stop", "--time", "30", container.name], stdout=subprocess.DEVNULL
            ) as told:
                wait_for(lambda: httpx.get(f"{container.url}/readyz").status_code == 503)
                stop.set()
                for done in loads:
                    done.result()
                last = unfinished.ask(sent[1000:])
                assert told.wait() == 0
        assert container.state["ExitCode"] == 0, container.log()
    assert last.status == 200
    assert set(answered) == {200}
    measured(f"stopped during {len(answered) + 1} requests, all answered with 200; exit status 0")
