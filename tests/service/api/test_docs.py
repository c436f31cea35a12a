"""The page /docs and its files."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.api import docs

FOLDER = Path(docs.__file__).parent / "swagger_ui"


COMPRESSED = {"swagger-ui-bundle.js", "swagger-ui.css"}
MEDIA_TYPES = {
    "docs.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "look.css": "text/css; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}


def files_of_the_page(client: TestClient) -> dict[str, str]:
    """The files that the page loads: their URLs by their names, without the hash that is part of the URL."""
    urls = re.findall(r'(?:src|href)="docs/([^"]+)"', client.get("/docs").text)
    return {re.sub(r"\.[0-9a-f]{16}\.", ".", url): f"/docs/{url}" for url in urls}


def test_the_page_loads_swagger_ui_and_nothing_of_another_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in page.text
    assert "<script>" not in page.text
    files = files_of_the_page(client)
    assert set(files) == set(MEDIA_TYPES)
    assert {client.get(url).status_code for url in files.values()} == {200}


def test_its_policy_allows_this_service_only(client: TestClient) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_files_are_those_that_npm_publishes(client: TestClient) -> None:
    sums = dict(line.split("  ")[::-1] for line in (FOLDER / "VERSION.md").read_text().splitlines() if "  " in line)
    assert len(sums) == 2
    files = files_of_the_page(client)
    for name, digest in sums.items():
        assert hashlib.sha256(client.get(files[name]).content).hexdigest() == digest, name


def test_a_client_that_takes_gzip_gets_what_is_stored(client: TestClient) -> None:
    for name, url in files_of_the_page(client).items():
        with client.stream("GET", url, headers={"accept-encoding": "br, gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
        plain = client.get(url, headers={"accept-encoding": "identity"})
        assert int(answer.headers["content-length"]) == len(raw)
        if name in COMPRESSED:
            assert answer.headers["content-encoding"] == "gzip"
            assert gzip.decompress(raw) == plain.content
            assert answer.headers["etag"] != plain.headers["etag"]
            assert answer.headers["vary"] == plain.headers["vary"] == "accept-encoding"
        else:
            assert "content-encoding" not in answer.headers
            assert raw == plain.content


def test_a_client_that_does_not_take_gzip_gets_the_file_itself(client: TestClient) -> None:
    for name, url in files_of_the_page(client).items():
        answer = client.get(url, headers={"accept-encoding": "gzip;q=0"})
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-type"] == MEDIA_TYPES[name]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_browser_keeps_the_files_for_a_year_and_can_ask_whether_one_has_changed(
    client: TestClient, encoding: str
) -> None:
    for url in files_of_the_page(client).values():
        answer = client.get(url, headers={"accept-encoding": encoding})
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        for tag in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}'):
            again = client.get(url, headers={"accept-encoding": encoding, "if-none-match": tag})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get(url, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "start.js", "start.0000000000000000.js", "..%2fdocs.py", "LICENSE"])
def test_there_is_no_other_file(client: TestClient, name: str) -> None:
    answer = client.get(f"/docs/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("accepted", "sent"),
    [
        ("", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("x-gzip", "gzip"),
        ("zstd, gzip;q=0.1", "gzip"),  # what is stored need not be made
        ("*", "gzip"),
        ("zstd", "zstd"),
        ("*, gzip;q=0", "zstd"),
    ],
)
def test_files_come_in_a_coding_that_the_client_takes(client: TestClient, accepted: str, sent: str | None) -> None:
    url = files_of_the_page(client)["swagger-ui.css"]
    answer = client.get(url, headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == sent
    assert answer.text.startswith(".swagger-ui")
    assert answer.headers["vary"] == "accept-encoding"
