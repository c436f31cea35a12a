"""nginx and HAProxy in front, with connections that they keep: what hostile clients send never reaches an innocent one.

HOSTILE_SECONDS is how long one proxy is attacked: a few in the short form, minutes in the long one. Where no proxy is
installed its tests are skipped, unless REQUIRE_PROXIES=1.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from harness.balancers import Local, serving
from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.servers import Server, wait_for
from tests.hostile.tools import tool

SECONDS: Final = float(os.environ.get("HOSTILE_SECONDS", "2"))
HOSTILE: Final = 6  # clients of each kind
INNOCENT: Final = 4
DEMANDED: Final = "REQUIRE_PROXIES"

HIDDEN: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: smuggled\r\n\r\n"
BODIES: Final = [b'{"images": ["%b"]}' % base64_png(digits()[number]).encode() for number in range(INNOCENT)]

# Both listen in the file system, so that there is no port that another could take.
NGINX: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream service {{ server 127.0.0.1:{service}; keepalive 4; }}
  server {{
    listen {listen};
    client_max_body_size 32m;
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_request_buffering {buffering};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "{connection}";
    }}
  }}
}}
"""

HAPROXY: Final = """
global
  maxconn 512
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend front
  bind {listen}
  default_backend service
backend service
  http-reuse always
  server service 127.0.0.1:{service} pool-max-conn 4 maxconn 8
"""


@contextlib.contextmanager
def proxy(kind: str, service: int, folder: Path) -> Iterator[Path]:
    """A proxy in front of the service at this port, until the block ends; where it listens."""
    listen, configuration = folder / "s", folder / "configuration"
    if kind.startswith("nginx"):
        # "upgrade" is what nginx's documentation of WebSockets has people write.
        connection = "upgrade" if "upgrade" in kind else "$http_connection"
        values = {"buffering": "off" if "unbuffered" in kind else "on", "connection": connection}
        text = NGINX.format(folder=folder, service=service, listen=f"unix:{listen}", **values)
        command = [tool("nginx", DEMANDED), "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(configuration)]
    else:
        text = HAPROXY.format(service=service, listen=f"unix@{listen}")
        command = [tool("haproxy", DEMANDED), "-db", "-f", str(configuration)]
    configuration.write_text(text)
    with serving(command, listen, folder / "log"):
        yield listen


def posted(*lines: bytes, body: bytes, path: str = "/encode") -> bytes:
    return request(path, None, "", b"Content-Type: application/json", *lines) + body


def framed(*lines: bytes, body: bytes = HIDDEN * 2, path: str = "/encode") -> bytes:
    return posted(*lines, b"Content-Length: %d" % len(body), body=body, path=path)


def chunked(*lines: bytes, body: bytes = HIDDEN * 2, trailers: bytes = b"", path: str = "/encode") -> bytes:
    data = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)
    return posted(*lines, b"Transfer-Encoding: chunked", body=data, path=path)


UPGRADE: Final = (b"Connection: Upgrade", b"Upgrade: x")
H2C: Final = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")

# The first of these made stock uvicorn answer the body as a request, and the proxy hand that answer to another client.
ATTACKS: Final = {
    "upgrade": [
        framed(*UPGRADE),
        framed(*UPGRADE, path="/nowhere"),
        chunked(*UPGRADE),
        framed(*H2C),
        framed(*H2C, b"Expect: 100-continue"),
        framed(b"Connection: Upgrade", b"Upgrade: websocket", path="/%65ncode"),
        framed(*UPGRADE, body=HIDDEN * 500),
    ],
    "framing": [
        posted(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
        posted(b"Content-Length: 2", b"Content-Length: %d" % len(HIDDEN), body=b"{}" + HIDDEN),
        posted(b"Content-Length: +2", body=b"{}" + HIDDEN),
        posted(b"Content-Length: 2 ", body=b"{}" + HIDDEN),
        posted(b"Content-Length:\t2\t", body=b"{}" + HIDDEN),
        posted(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: xchunked", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        posted(b"X: a\r\n Content-Length: 2", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        posted(b"X: a\nTransfer-Encoding: chunked", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        framed(b"Connection: Content-Length", body=HIDDEN),
    ],
    "chunks": [
        chunked(trailers=b"Connection: close\r\n"),
        chunked(trailers=b"Content-Length: 5\r\nX: y\r\n"),
        chunked(trailers=b"Transfer-Encoding: chunked\r\n"),
        chunked(trailers=b"X: y\r\n" * 100),
        posted(b"Transfer-Encoding: chunked", body=b"2;a=\n\r\n{}\r\n0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked", body=b"2\n{}\r\n0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked", body=b"2 \r\n{}\r\n0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n" + HIDDEN),
        posted(b"Transfer-Encoding: chunked", body=b"%x\r\n{}\r\n0\r\n\r\n" % (2**64 + 2) + HIDDEN),
        posted(b"Transfer-Encoding: chunked", body=b'2;a="\r\n{}\r\n0\r\n\r\n' + HIDDEN, path="/nowhere"),
        framed(path="/livez"),
        request("/livez", None, "", b"Content-Length: %d" % len(HIDDEN), method="GET") + HIDDEN,
        request("/livez", None, "", b"Content-Length: %d" % len(HIDDEN), method="HEAD") + HIDDEN,
    ],
}


@pytest.fixture(scope="module")
def truths(server: Server) -> list[bytes]:
    """The answer to each innocent client's request."""
    with Connection(server.port) as connection:
        answers = [connection.ask(request("/encode", body)) for body in BODIES]
    assert [answer.status for answer in answers] == [200] * INNOCENT
    assert len({answer.body for answer in answers}) == INNOCENT
    return [answer.body for answer in answers]


def attack(path: Path, requests: list[bytes], seed: int, over: threading.Event) -> None:
    """Send hostile requests, whole or in two, and read what comes, or go away."""
    draw = random.Random(seed)
    while not over.is_set():
        with contextlib.suppress(OSError), Local(path) as connection:
            connection.socket.settimeout(0.2)
            data = draw.choice(requests)
            cut = draw.choice((len(data), data.find(b"\r\n\r\n") + 4, len(data) - 1))
            connection.send(data[:cut])
            if data[cut:]:
                over.wait(0.002)
                connection.send(data[cut:])
            with contextlib.suppress(ValueError, IndexError):  # an answer that is cut off
                for _ in range(draw.randint(0, 2)):
                    connection.answer()


def ask(path: Path, number: int, truth: bytes, over: threading.Event, asked: list[int], wrong: list[str]) -> None:
    """Ask the same again and again, on kept connections and fresh ones; note each answer that is not the right one."""
    count = 0
    while not over.is_set():
        with Local(path) as connection:
            for _ in range(20):
                answer = connection.ask(
                    request("/encode", BODIES[number], "application/json", b"X-Request-ID: i%d" % count)
                )
                asked[number] += 1
                if (answer.status, answer.body, answer.headers.get("x-request-id")) != (200, truth, f"i{count}"):
                    wrong.append(f"{answer.status} {answer.headers} {answer.body[:100]!r}")
                    break
                count += 1
                if answer.headers.get("connection") == "close" or over.is_set():
                    break


@pytest.mark.parametrize("kind", ["nginx upgrade", "nginx upgrade unbuffered", "nginx unbuffered", "haproxy"])
@pytest.mark.parametrize("name", ATTACKS)
def test_no_innocent_client_gets_anything_but_its_own_answer(
    server: Server, truths: list[bytes], tmp_path: Path, kind: str, name: str
) -> None:
    over = threading.Event()
    asked, wrong = [0] * INNOCENT, list[str]()
    with proxy(kind, server.port, tmp_path) as path, ThreadPoolExecutor(HOSTILE + INNOCENT) as pool:
        works = [pool.submit(attack, path, ATTACKS[name], seed, over) for seed in range(HOSTILE)]
        works += [pool.submit(ask, path, number, truths[number], over, asked, wrong) for number in range(INNOCENT)]
        over.wait(SECONDS / len(ATTACKS))
        wait_for(lambda: min(asked) > 0 or any(work.done() for work in works))
        over.set()
        for work in works:
            work.result()
    assert not wrong
