"""The page at /, its files, and the index that tools get there."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from service.api.playground import FOLDER

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"  # as browsers send it


def page(client: TestClient) -> str:
    return client.get("/", headers={"accept": BROWSER}).text


def files_of_the_page(client: TestClient) -> list[str]:
    return sorted(set(re.findall(r'(?:src|href)="(playground/[^"]+)"', page(client))))


def test_a_browser_gets_the_page(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": BROWSER})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "{" not in answer.text  # every place for a file is filled


@pytest.mark.parametrize("accept", ["application/json", "*/*", None])
def test_a_tool_gets_an_index_of_the_routes(client: TestClient, accept: str | None) -> None:
    answer = client.get("/", headers={"accept": accept} if accept else {})
    assert answer.headers["content-type"] == "application/json"
    index = answer.json()
    assert index["routes"]["POST /encode"] == "Images to latents"
    document = client.get(index["openapi"]).json()
    assert len(index["routes"]) == sum(map(len, document["paths"].values()))
    assert client.get(index["documentation"]).status_code == 200


def test_whoever_takes_neither_is_told_what_there_is(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": "image/png"})
    assert (answer.status_code, answer.json()["detail"]) == (
        406,
        "This route answers with application/json, text/html.",
    )


def test_the_page_asks_no_other_host_and_has_no_inline_code(client: TestClient) -> None:
    html = page(client)
    assert "//" not in html
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)
    assert re.findall(r"<script[^>]*>(?!</script>)", html) == []
    for url in files_of_the_page(client):
        text = client.get(url).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), url


def test_its_policy_is_strict(client: TestClient) -> None:
    headers = client.get("/", headers={"accept": BROWSER}).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_the_page_names_every_file_so_that_all_load_at_once(client: TestClient) -> None:
    named = {url.rpartition("/")[2] for url in files_of_the_page(client)}
    assert named == {path.name for path in FOLDER.iterdir()} - {"page.html"}


def test_nothing_is_painted_before_all_of_the_page_is_there(client: TestClient) -> None:
    html = page(client)
    last = re.findall(r'<link rel="expect" href="#(\w+)" blocking="render">', html)
    assert re.findall(r'<dialog id="(\w+)"', html)[-1:] == last
    assert html.rindex(' id="') < html.rindex("</dialog>")


def test_its_files_are_kept_for_a_year_under_urls_of_their_content(client: TestClient) -> None:
    for url in files_of_the_page(client):
        answer = client.get(url)
        assert answer.content == (FOLDER / url.rpartition("/")[2]).read_bytes()
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = client.get(url, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_page_itself_is_asked_for_each_time(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": BROWSER})
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["vary"] == "accept, accept-encoding"
    again = client.get("/", headers={"accept": BROWSER, "if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/", headers={"if-none-match": answer.headers["etag"]}).status_code == 200  # the index is another


def test_all_of_it_is_less_than_100_kb_compressed(client: TestClient) -> None:
    size = 0
    for url in ["/", *files_of_the_page(client)]:
        with client.stream("GET", url, headers={"accept": BROWSER, "accept-encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
        assert gzip.decompress(raw)
        size += len(raw)
    assert size < 100_000


@pytest.mark.parametrize(
    "path", ["nothing.js", "page.html", "..%2fsettings.py", "../../../playground/0000000000000000/main.js"]
)
def test_there_is_no_other_file(client: TestClient, path: str) -> None:
    place = files_of_the_page(client)[0].rpartition("/")[0]
    assert client.get(f"/{place}/{path}").status_code == 404


def test_without_the_playground_a_browser_gets_the_index_too(start: Callable[..., TestClient]) -> None:
    url = files_of_the_page(start())[0]
    client = start(playground=False)
    assert client.get("/", headers={"accept": BROWSER}).headers["content-type"] == "application/json"
    assert client.get(url).status_code == 404
    assert client.get("/docs").status_code == 200
