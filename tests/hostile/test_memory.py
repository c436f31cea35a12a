"""What hostile requests may make a process hold. Each of the attacks took several times as much before the budget."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.codings import PACK, zeros
from harness.connection import Answer, Connection, request
from harness.digits import base64_png, digits
from harness.servers import Server, running, wait_for
from tests.hostile.few_files import FILES

MIB = 2**20
JSON = "application/json"
BODY = 16 * MIB
BUDGET = 287_000_000
GOOD = request("/encode", json.dumps({"images": [base64_png(digits()[0])]}).encode())
LIVEZ = request("/livez", None, method="GET")
READYZ = request("/readyz", None, method="GET")
METRICS = request("/metrics", None, method="GET")


def filled(before: bytes, unit: bytes, after: bytes, size: int = BODY) -> bytes:
    """A body of at most `size` bytes that repeats a unit."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def webp(side: int) -> bytes:
    small = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


URI = request("/encode", filled(b'{"images": ["data:a/a', b";a", b'"]}'))
SPACES = request("/encode", filled(b'{"images": ["', b"AB ", b'"]}'))
ESCAPES = request("/encode", filled(b'{"images": ["', b"\\n", "😀".encode() + b'"]}'))
NUMBERS = request("/decode", filled(b'{"z": [[', b"1,", b"1]]}", 2 * MIB))
PICTURE = request("/encode?preprocess=digit", webp(5000), "image/webp")
PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="p"\r\n\r\n'
VALUES = filled(b'{"inputs":[{"name":"z","datatype":"FP32","shape":[1000,20],"data":[', b"1,", b"1]}]}", 2 * MIB)
INFER = request("/v2/models/mnist-mlp.decoder/infer", VALUES)

INFER_BOMB = request("/v2/models/mnist-mlp.decoder/infer", PACK["gzip"](bytes(4 * BODY)), "", b"Content-Encoding: gzip")
GZIP_BOMB = request("/encode", PACK["gzip"](bytes(4 * BODY)), "image/png", b"Content-Encoding: gzip")
ZSTD_BOMB = request("/decode", zeros(BODY - 99, 23), "application/x-npy", b"Content-Encoding: zstd")
LAYERS = request("/encode", PACK["gzip"](PACK["zstd"](bytes(BODY)) * 60), "image/png", b"Content-Encoding: zstd, gzip")
UNPACKED = request("/encode", PACK["zstd"](filled(b'{"images": ["', b"AB ", b'"]}')), JSON, b"Content-Encoding: zstd")
BOMBS = {
    "an inference bomb": INFER_BOMB,
    "a gzip bomb": GZIP_BOMB,
    "a zstd bomb with the largest window": ZSTD_BOMB,
    "layers": LAYERS,
    "JSON that comes out within the limit": UNPACKED,
}
FORM = request("/encode", filled(PART, b"a", b"\r\n--b--\r\n"), "multipart/form-data; boundary=b")


def asked(server: Server, requests: Iterable[bytes]) -> list[Answer]:
    """The answers to requests that come at once, each on a connection of its own."""

    def ask(data: bytes) -> Answer:
        with Connection(server.port) as connection:
            connection.socket.settimeout(100)
            return connection.ask(data)

    requests = list(requests)
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(ask, requests))


def grown(server: Server, *requests: bytes, statuses: set[int]) -> int:
    """By how many bytes the server grows at its peak; meanwhile, and afterwards, it answers the probe and others."""
    asked(server, [GOOD, LIVEZ])
    server.forget_peak()
    before = server.memory()
    over = threading.Event()

    def others() -> None:
        while not over.is_set():
            good, alive = asked(server, [GOOD, LIVEZ])
            assert alive.status == 200
            assert good.status in (200, 503)

    with ThreadPoolExecutor(1) as threads:
        meanwhile = threads.submit(others)
        answers = asked(server, requests)
        over.set()
        meanwhile.result()
    for answer in answers:
        assert answer.status in statuses, answer
        assert answer.status != 503 or answer.headers["retry-after"] == "1"
    peak = server.memory("VmHWM") - before
    wait_for(lambda: asked(server, [GOOD])[0].status == 200)
    return peak


@pytest.fixture(scope="module")
def small(start: Callable[..., Server]) -> Server:
    """A server with the image's models, and with such a budget as it has in a container of 512 MB."""
    return start(memory_bytes=BUDGET, deadline_ms=100_000, models="mnist-mlp@2,mnist-sharp,fashion-sharp")


class TestPeaks:
    """The peak of one process, over what it has without these requests."""

    @pytest.mark.parametrize(
        ("data", "most"),
        [(URI, 64), (SPACES, 96), (ESCAPES, 160), (NUMBERS, 160), (FORM, 96), (PICTURE, 330), (INFER, 160)],
        ids=["a data: URI", "spaces", "escapes", "numbers", "multipart", "WebP", "a tensor"],
    )
    def test_one_request_takes_a_small_multiple_of_what_it_holds(self, small: Server, data: bytes, most: int) -> None:
        assert grown(small, data, statuses={200, 400, 413, 422}) < most * MIB

    @pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
    def test_a_body_takes_no_more_when_it_comes_compressed(self, small: Server, data: bytes) -> None:
        assert len(data) < 100_000
        assert grown(small, data, statuses={413, 422}) < 96 * MIB

    @pytest.mark.parametrize(
        "requests",
        [[data] * 20 for data in (URI, SPACES, ESCAPES, NUMBERS, FORM, INFER)] + [[PICTURE] * 8, [*BOMBS.values()] * 6],
        ids=["data: URIs", "spaces", "escapes", "numbers", "multipart", "tensors", "WebPs", "bombs of all kinds"],
    )
    def test_many_at_once_stay_within_the_budget(self, small: Server, requests: list[bytes]) -> None:
        assert grown(small, *requests, statuses={200, 400, 413, 422, 503}) < BUDGET + 64 * MIB

    def test_bodies_that_never_end_are_counted_and_freed(self, small: Server) -> None:
        held = [Connection(small.port) for _ in range(40)]
        heads = [request("/encode", None, "", b"Content-Type: image/png", b"Content-Length: %d" % BODY)] * len(held)
        for connection, head in zip(held, heads, strict=True):
            connection.send(head + b"x")
        with Connection(small.port) as connection:
            answer = connection.ask(FORM)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json["detail"] == "Other requests have the memory that this one needs."
        for connection in held:
            connection.socket.close()
            connection.stream.close()
        wait_for(lambda: asked(small, [FORM])[0].status == 422)

    def test_short_bodies_that_never_end_are_counted_and_freed(self, start: Callable[..., Server]) -> None:
        server = start(memory_bytes=2 * MIB, max_body_bytes=MIB)
        held = [Connection(server.port) for _ in range(40)]
        for connection in held:
            connection.send(request("/encode", b"x" * 60_000)[:-1])
        refused = 0
        for connection in held[-4:]:
            answer = connection.answer()
            assert answer is not None
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            refused += 1
            connection.send(b"x" + GOOD)  # its body is dropped, and what follows is answered
            after = connection.answer()
            assert after is not None
            assert after.status == 200
        assert refused == 4
        for connection in held:
            connection.socket.close()
            connection.stream.close()
        long = request("/encode", GOOD.partition(b"\r\n\r\n")[2].ljust(60_000))
        wait_for(lambda: asked(server, [long])[0].status == 200)


def test_what_never_fits_is_413_and_names_the_setting(start: Callable[..., Server]) -> None:
    server = start(memory_bytes=64 * MIB)
    (answer,) = asked(server, [PICTURE])
    assert answer.status == 413
    assert "VAE_MEMORY_BYTES" in answer.json["detail"]
    assert asked(server, [GOOD])[0].status == 200
    assert "Bodies may have 8388608 bytes, not 16777216 (VAE_MAX_BODY_BYTES)" in server.log.read_text()
    assert asked(server, [FORM])[0].status == 413


def test_the_log_says_what_requests_may_hold_and_from_what(server: Server) -> None:
    assert "Requests may hold " in server.log.read_text()
    assert "of which this process has taken" in server.log.read_text()
    assert re.search(r"CPUs for this process, by affinity and cgroup quota: \d+", server.log.read_text())


class TestHugeLatents:
    """/decode and /sample far from everything that a decoder has seen."""

    def test_huge_latents_are_refused_and_the_service_stays_ready(self, server: Server) -> None:
        for value in ("3.4e38", "-3.4e38", "1e39", "1000001", "1e10"):
            body = b'{"z": [[%s], [%s]]}' % (b",".join([b"0"] * 20), b",".join([value.encode()] + [b"0"] * 19))
            (answer,) = asked(server, [request("/decode", body)])
            assert answer.status == 422
            assert [fault["pointer"] for fault in answer.json["errors"]] == ["/z/1"]
            assert asked(server, [READYZ])[0].status == 200
            assert is_ready(server)

    def test_walks_between_or_from_them_are_refused_too(self, server: Server) -> None:
        zero, huge = b",".join([b"0"] * 20), b",".join([b"1e7"] + [b"0"] * 19)
        for path, body in (
            ("/interpolate", b'{"z": [[%s], [%s]]}' % (zero, huge)),
            ("/traverse", b'{"z": [[%s]]}' % huge),
        ):
            (answer,) = asked(server, [request(path, body)])
            assert answer.status == 422
            assert [fault["pointer"][:2] for fault in answer.json["errors"]] == ["/z"]
            assert is_ready(server)

    def test_the_largest_ones_are_decoded(self, server: Server) -> None:
        body = b'{"z": [[%s]]}' % b",".join([b"1e6", b"-1e6"] * 10)
        assert asked(server, [request("/decode", body)])[0].status == 200
        assert asked(server, [request("/sample", b'{"n": 64, "temperature": 100}')])[0].status == 200
        assert is_ready(server)


def is_ready(server: Server) -> bool:
    text = asked(server, [METRICS])[0].body.decode()
    lines = [line for line in text.splitlines() if line.startswith("vae_ready{")]
    return bool(lines) and all(line.endswith(" 1.0") for line in lines)


def test_with_few_descriptors_connections_are_few_and_probes_are_answered(tmp_path: Path) -> None:
    with running(tmp_path / "log", "tests.hostile.few_files") as server, ExitStack() as stack:
        (most,) = re.findall(r"At most (\d+) connections, not 4096 \(VAE_MAX_CONNECTIONS\)", server.log.read_text())
        assert 1 <= int(most) < FILES
        for _ in range(int(most)):
            assert stack.enter_context(Connection(server.port)).ask(GOOD).status == 200
        for _ in range(3):
            answers = asked(server, [LIVEZ, READYZ, METRICS, GOOD])
            assert [answer.status for answer in answers] == [200, 200, 200, 503]
    assert "Traceback" not in server.log.read_text()
