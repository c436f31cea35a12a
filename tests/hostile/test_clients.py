"""Clients as people have them: each POSTs a digit and gets its latents, whatever its library adds to the request."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from harness.connection import Connection, request
from harness.digits import base64_png, digits
from harness.paths import DATA, DIGIT
from harness.servers import Server
from tests.hostile.tools import missing, tool

HERE: Final = Path(__file__).parent
RECORDED: Final = DATA / "clients"
BODY: Final = json.dumps({"images": [base64_png(digits()[0])]}).encode()
HEADERS: Final = {"Content-Type": "application/json"}
DEMANDED: Final = "REQUIRE_CLIENTS"


@pytest.fixture(scope="module")
def truth(server: Server) -> bytes:
    with Connection(server.port) as connection:
        return connection.ask(request("/encode", BODY)).body


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("body") / "body.json"
    path.write_bytes(BODY)
    return path


def output(*command: str | Path) -> bytes:
    """What a program prints. It fails with what the program says of its failure."""
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def are_right(printed: bytes, truth: bytes, names: dict[str, int]) -> None:
    """Fail unless each line is a good answer, so many for each name."""
    lines = [line.split(b"\t") for line in printed.splitlines()]
    assert [line[1:] for line in lines] == [[b"200", truth]] * len(lines)
    assert {name: sum(line[0] == name.encode() for line in lines) for name in names} == names


def test_java(server: Server, truth: bytes, body: Path) -> None:
    """Java's own client, which offers h2c on each POST, with bodies as Spring and others hand them over."""
    java = tool("java", DEMANDED)
    # A Java runtime without its compiler cannot run a source file.
    if b"jdk.compiler" not in output(java, "--list-modules"):
        missing("Java has no compiler", DEMANDED)
    printed = output(
        java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", HERE / "Clients.java", f"{server.url}/encode", body
    )
    are_right(printed, truth, {"string": 3, "file": 3, "stream": 3, "fresh": 3})


def test_node(server: Server, truth: bytes, body: Path) -> None:
    """Node's fetch: kept connections, streams, several at once."""
    node = tool("node", DEMANDED)
    if int(output(node, "--version").lstrip(b"v").split(b".")[0]) < 18:
        missing("Node is older than 18", DEMANDED)
    printed = output(node, HERE / "clients.mjs", f"{server.url}/encode", body)
    are_right(printed, truth, {"buffer": 3, "text": 3, "stream": 3, "together": 8})


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
@pytest.mark.parametrize("expect", [[], ["-H", "Expect: 100-continue"]], ids=["plain", "expect"])
@pytest.mark.parametrize("chunks", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["a length", "chunks"])
def test_curl_with_json(
    server: Server, truth: bytes, body: Path, version: str, expect: list[str], chunks: list[str]
) -> None:
    """`--http2` offers h2c on the first request of a connection."""
    if chunks and version == "--http1.0":
        pytest.skip("HTTP/1.0 has no chunks")
    curl = tool("curl", DEMANDED)
    if version == "--http2" and b"HTTP2" not in output(curl, "--version"):
        missing("curl has no HTTP/2", DEMANDED)
    command = (
        curl,
        "-sS",
        version,
        *expect,
        *chunks,
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        f"@{body}",
    )
    address = f"{server.url}/encode"
    assert output(*command, address, address, address) == truth * 3


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_with_a_form(server: Server, version: str) -> None:
    curl = tool("curl", DEMANDED)
    form = output(curl, "-sS", version, "-F", f"images=@{DIGIT}", f"{server.url}/encode")
    with Connection(server.port) as connection:
        assert form == connection.ask(request("/encode", DIGIT.read_bytes(), "image/png")).body


def pieces() -> Iterator[bytes]:
    yield BODY[:100]
    yield BODY[100:]


def with_requests(url: str, data: bytes | Iterator[bytes]) -> bytes:
    import requests

    with requests.Session() as session:
        answers = [session.post(url, data=data, headers=HEADERS)]
        answers += [session.post(url, json=json.loads(BODY)) for _ in range(2)]
    return b"".join(answer.content for answer in answers)


def with_urllib3(url: str, data: bytes | Iterator[bytes]) -> bytes:
    import urllib3

    with urllib3.PoolManager() as pool:
        return b"".join(pool.request("POST", url, body=each, headers=HEADERS).data for each in (data, BODY, BODY))


def with_httpx2(url: str, data: bytes | Iterator[bytes]) -> bytes:
    import httpx2

    with httpx2.Client() as client:
        answers = [client.post(url, content=data, headers=HEADERS)]
        answers += [client.post(url, json=json.loads(BODY)) for _ in range(2)]
    return b"".join(answer.content for answer in answers)


@pytest.mark.parametrize("post", [with_requests, with_urllib3, with_httpx2], ids=["requests", "urllib3", "httpx2"])
@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "a stream"])
def test_python(
    server: Server, truth: bytes, post: Callable[[str, bytes | Iterator[bytes]], bytes], stream: bool
) -> None:
    """Libraries with pools of kept connections."""
    name = post.__name__.removeprefix("with_")
    if find_spec(name) is None:
        missing(f"{name} is not installed", DEMANDED)
    assert post(f"{server.url}/encode", pieces() if stream else BODY) == truth * 3


@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "a stream"])
def test_pythons_own_client(server: Server, truth: bytes, stream: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(3):
        connection.request("POST", "/encode", pieces() if stream else BODY, HEADERS, encode_chunked=stream)
        assert connection.getresponse().read() == truth
    connection.close()


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.glob("*.http")))
def test_a_recorded_client(server: Server, name: str) -> None:
    """What was recorded of a client that is not here; see README.md beside the recordings."""
    recorded = (RECORDED / name).read_bytes()
    with Connection(server.port) as connection:
        for _ in range(3):
            answer = connection.ask(recorded)
            assert answer.status == 200
            assert answer.body == connection.ask(request("/encode", DIGIT.read_bytes(), "image/png")).body
