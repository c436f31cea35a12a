"""The service on a real cluster of two nodes, through both proxies: `make test-ray` makes what this needs, and runs it.

The tests of a cluster go in their order: the second replica comes with the load, and at the end a node is killed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from harness.digits import base64_png, digits, encoded
from harness.paths import MODELS, ROOT
from harness.servers import Server, wait_for
from harness.streams import Stream
from tests.ray.conftest import PYTHON, Cluster
from vae_client import Client

pytestmark = pytest.mark.skipif(not os.environ.get("REQUIRE_RAY"), reason="make test-ray runs it")

PICTURE = encoded(digits()[0])
LINE = b'{"image": "%b"}\n' % base64.b64encode(PICTURE)
JSON = {"content-type": "application/json"}

# Headers that differ from answer to answer, or are the server's own.
OTHERS = {"date", "server", "server-timing", "connection", "x-request-id", "transfer-encoding"}


def json_of(**document: object) -> bytes:
    return json.dumps(document).encode()


def npy(images: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(images))
    return stream.getvalue()


BATCH = [base64_png(digit) for digit in digits()[:40]]
TENSOR = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": digits()[0].reshape(-1).tolist()}
REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "ready": ("GET", "/readyz", b"", {}),
    "live": ("GET", "/livez", b"", {}),
    "models": ("GET", "/models?view=short", b"", {}),
    "a model's card": ("GET", "/models/mnist-mlp/files/README.md", b"", {"accept-encoding": "zstd"}),
    "the document": ("GET", "/openapi.json", b"", {}),
    "the playground": ("GET", "/", b"", {}),
    "a head": ("HEAD", "/models", b"", {}),
    "options": ("OPTIONS", "/encode", b"", {}),
    "encode": ("POST", "/encode", json_of(images=BATCH[:1]), JSON),
    "encode with noise": ("POST", "/encode", json_of(images=BATCH[:3], sample=True, seed=7), JSON),
    "encode a PNG": ("POST", "/encode", PICTURE, {"content-type": "image/png"}),
    "encode an array": (
        "POST",
        "/encode",
        npy(digits()[:40]),
        {"content-type": "application/x-npy", "accept": "application/x-npy"},
    ),
    "reconstruct": ("POST", "/reconstruct", json_of(images=BATCH), JSON | {"accept-encoding": "gzip"}),
    "reconstruct as PNG": ("POST", "/reconstruct", json_of(images=BATCH), JSON | {"accept": "image/png"}),
    "sample": ("POST", "/sample", json_of(n=4, seed=3, label=7), JSON),
    "decode": ("POST", "/decode", json_of(z=[[0.5] * 20]), JSON),
    "score": ("POST", "/score", json_of(images=BATCH[:2]), JSON),
    "interpolate": ("POST", "/interpolate", json_of(images=BATCH[:2], steps=5), JSON),
    "traverse": ("POST", "/traverse", json_of(images=BATCH[:1], dims=[0, 1], steps=3), JSON),
    "a stream": ("POST", "/encode", LINE * 600 + b'{"image": "none"}\n', {"content-type": "application/x-ndjson"}),
    "embeddings": ("POST", "/v1/embeddings", json_of(model="mnist-mlp", input=[BATCH[0]]), JSON),
    "Open Inference": ("POST", "/v2/models/mnist-mlp.encoder/infer", json_of(id="a", inputs=[TENSOR]), JSON),
    "no picture": ("POST", "/encode", json_of(images=["none"]), JSON),
    "no JSON": ("POST", "/encode", b"{", JSON),
    "another model": ("POST", "/encode", json_of(images=BATCH[:1], model="nobody"), JSON),
    "another form": ("POST", "/encode", PICTURE, {"content-type": "text/css"}),
    "too many": ("POST", "/sample", json_of(n=5000), JSON),
    "too late": ("POST", "/sample", json_of(n=1), JSON | {"x-request-timeout-ms": "0"}),
    "another method": ("DELETE", "/encode", b"", {}),
    "no route": ("GET", "/nowhere", b"", {}),
}


class Work:
    """Two clients that ask for the same latents again and again until the block ends; `wrong` are answers, or errors.

    They leave the processors to Ray for most of the time: it has replicas to start meanwhile.
    """

    def __init__(self, url: str) -> None:
        self.answers, self.wrong, self._url, self._over = 0, list[object](), url, threading.Event()

    def __enter__(self) -> Work:
        self._pool = ThreadPoolExecutor(2)
        for digit in digits()[:2]:
            self._pool.submit(self._ask, digit)
        wait_for(lambda: self.answers > 0 or bool(self.wrong))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def goes_on(self) -> None:
        """Wait until more has been answered than what was under way."""
        before = self.answers
        wait_for(lambda: self.answers > before + 4 or bool(self.wrong))

    def _ask(self, digit: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        # As many tries as it takes: how long a replica is missing depends on the machine.
        with Client(self._url, timeout=200, retries=1000) as client:
            right = None
            while not self._over.is_set():
                try:
                    mu = client.encode(digit).mu.tobytes()
                except Exception as error:
                    self.wrong.append(error)
                    return
                right = mu if right is None else right
                if mu != right:
                    self.wrong.append(mu)
                self.answers += 1
                self._over.wait(0.05)


@pytest.fixture(scope="module")
def two_replicas(cluster: Cluster) -> Cluster:
    """The cluster, when it has two replicas: requests that last are more than one of them should have."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Stream(cluster.port)).send(LINE)
        wait_for(lambda: len(cluster.replicas()) == 2)
    return cluster


@pytest.mark.parametrize("name", REQUESTS)
def test_every_answer_is_that_of_the_service_alone(cluster: Cluster, server: Server, name: str) -> None:
    method, path, body, headers = REQUESTS[name]
    answers = [
        httpx.request(method, url + path, content=body, headers={"x-request-id": "mine"} | headers)
        for url in (server.url, cluster.url)
    ]
    alone, through = answers
    assert through.status_code == alone.status_code
    assert through.content == alone.content
    assert through.headers.get_list("x-request-id") == ["mine"]
    assert kept(through) == kept(alone)


def kept(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OTHERS}


def test_a_stream_is_answered_while_it_is_sent(cluster: Cluster) -> None:
    with Stream(cluster.port) as stream:
        stream.send(LINE)
        answers = stream.lines()
        assert next(answers)["line"] == 1
        stream.send(LINE)
        stream.end()
        assert [answer["line"] for answer in answers] == [2]


def test_replicas_come_with_the_load(two_replicas: Cluster) -> None:
    assert sorted(two_replicas.replicas().values()) == [False, True]


def test_what_is_under_way_is_finished_when_replicas_are_replaced(two_replicas: Cluster) -> None:
    before = two_replicas.replicas()
    with Work(two_replicas.url) as work, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Stream(two_replicas.port)) for _ in range(8)]  # both replicas have some
        for stream in streams:
            stream.send(LINE)
        answers = [stream.lines() for stream in streams]
        assert {next(lines)["line"] for lines in answers} == {1}
        two_replicas.tell("deploy", {"VAE_LOG_LEVEL": "warning"})
        wait_for(lambda: bool(before.keys() - two_replicas.replicas().keys()))  # it still runs, but gets nothing new
        for stream in streams:
            stream.send(LINE)
            stream.end()
        assert [[answer["line"] for answer in lines] for lines in answers] == [[2]] * len(streams)
        wait_for(lambda: len(two_replicas.replicas()) == 2 and not before.keys() & two_replicas.replicas().keys())
        work.goes_on()
    assert work.wrong == []


def test_a_replica_that_is_not_ready_fails_its_health_check() -> None:
    """Ray then replaces it."""
    environment = os.environ | {"VAE_MODELS_DIR": str(MODELS)}
    script = Path(__file__).with_name("health.py")
    ran = subprocess.run([PYTHON, script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["None", "Draining: the process has been asked to stop."], ran.stderr


def test_a_killed_replica_loses_no_request(two_replicas: Cluster) -> None:
    before = two_replicas.replicas()
    with Work(two_replicas.url) as work:
        two_replicas.tell("kill", next(iter(before)))
        work.goes_on()
        wait_for(lambda: len(two_replicas.replicas()) == 2 and before.keys() != two_replicas.replicas().keys())
        work.goes_on()
    assert work.wrong == []


def test_a_killed_node_loses_no_request(two_replicas: Cluster) -> None:
    with Work(two_replicas.url) as work:
        two_replicas.tell("kill_node")
        work.goes_on()
        wait_for(lambda: list(two_replicas.replicas().values()) == [True])
        work.goes_on()
    assert work.wrong == []
