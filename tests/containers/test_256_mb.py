"""A container of 256 MB with default settings: the largest requests do not kill it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import pytest
from PIL import Image

from harness.connection import request
from harness.digits import digits, encoded
from harness.servers import Server, wait_for
from service.images.codec import npy_bytes
from tests.containers.docker import Container, started
from tests.hostile.test_memory import (
    BODY,
    BOMBS,
    ESCAPES,
    FORM,
    GOOD,
    INFER,
    NUMBERS,
    PART,
    PICTURE,
    SPACES,
    URI,
    asked,
    filled,
)

SIDE = 5000  # 25 million pixels, the most of VAE_MAX_PIXELS


@pytest.fixture(scope="module")
def small(image: str, measured: Callable[[str], None]) -> Iterator[Container]:
    with started("--memory=256m", "--memory-swap=256m", "--cpus=1") as container:
        measured(f"256 MB, 1 CPU: the service answered after {container.seconds_to_start():.1f} s")
        yield container
        files = (
            "/sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes"  # of version 2, of version 1
        )
        most = int(container.shell(f"cat {files} 2> /dev/null"))
        measured(f"256 MB: the most that was taken during the largest requests: {most / 1e6:.0f} MB")


@pytest.fixture(scope="module")
def server(small: Container) -> Iterator[Server]:
    with small.as_server() as server:
        yield server


def picture(mode: str, kind: str, **options: object) -> bytes:
    """A file of as many pixels as one request may have."""
    return encoded(Image.linear_gradient("L").resize((SIDE, SIDE)).convert(mode), kind, **options)


def npy(count: int) -> bytes:
    return npy_bytes(np.resize(digits(), (count, 28, 28)))


# The largest requests of every kind, made for the most bytes that a body may have.
LARGEST: Final[dict[str, Callable[[int], list[bytes]]]] = {
    "bodies of 16 MB": lambda _: [request("/encode", bytes(BODY), "image/png"), URI, SPACES, ESCAPES, FORM],
    "bodies as large as they may be": lambda size: [
        request("/encode", filled(b'{"images": ["', b"AB ", b'"]}', size)),
        request("/encode", filled(b'{"images": ["data:a/a', b";a", b'"]}', size)),
        request("/encode", filled(b'{"images": ["', b"\\n", "😀".encode() + b'"]}', size)),
        request("/encode", filled(PART, b"a", b"\r\n--b--\r\n", size), "multipart/form-data; boundary=b"),
        NUMBERS,
        INFER,
    ],
    "bombs": lambda _: list(BOMBS.values()),
    "pictures of 25 megapixels": lambda _: [
        PICTURE,
        request("/encode", picture("L", "PNG"), "image/png"),
        request("/encode", picture("RGB", "PNG"), "image/png"),
        request("/encode?preprocess=digit", picture("RGB", "JPEG", progressive=True), "image/jpeg"),
    ],
    "batches of 1024": lambda _: [
        request("/reconstruct", npy(1024), "application/x-npy"),
        request("/sample", b'{"n": 1024}'),
        request("/score?k=1", npy(1024), "application/x-npy"),
    ],
}


def test_it_says_what_it_chose(small: Container) -> None:
    log = small.log()
    assert "the cgroup allows 268 MB" in log
    assert re.search(r"Bodies may have \d+ bytes, not 16777216 \(VAE_MAX_BODY_BYTES\)", log)


@pytest.mark.parametrize("what", LARGEST)
def test_sixteen_at_once_of_the_largest_requests_do_not_kill_it(small: Container, server: Server, what: str) -> None:
    (most,) = map(int, re.findall(r"Bodies may have (\d+) bytes", small.log()))
    for each in LARGEST[what](most):
        statuses = {answer.status for answer in asked(server, [each] * 16)}
        assert statuses <= {200, 400, 413, 422, 503, 504}, statuses
        wait_for(lambda: asked(server, [GOOD])[0].status == 200)
    state = small.state
    assert (state["Running"], state["OOMKilled"]) == (True, False)
