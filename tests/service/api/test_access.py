"""Who may call: API keys, other origins' pages, and the headers that protect pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from harness.connection import Connection
from harness.servers import wait_for
from tests.service.api.in_bytes import DIGIT, answer, post


class TestKeys:
    """A service that asks for API keys."""

    @pytest.fixture
    def port(self, start_server: Callable[..., int], tmp_path: Path) -> int:
        (tmp_path / "keys").write_text("sesame\n")
        return start_server(api_keys_file=tmp_path / "keys")

    @pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["the fast path", "through ASGI"])
    def test_a_verb_needs_a_key(self, port: int, expect: dict[str, Any]) -> None:
        no_key: dict[str, Any] = {}
        for headers, wanted in (
            (no_key, 401),
            ({"X-API-Key": "wrong"}, 401),
            ({"Authorization": "Bearer sesame"}, 200),
        ):
            with Connection(port) as connection:
                connection.send(post(**headers, **expect))
                status, answered, body = answer(connection)
            assert status == wanted
            if wanted == 401:
                assert answered["www-authenticate"] == "Bearer"
                assert b"sesame" not in body

    def test_a_key_that_is_removed_from_the_file_is_refused_though_the_head_is_cached(
        self, port: int, tmp_path: Path
    ) -> None:
        with Connection(port) as connection:
            for _ in range(2):
                connection.send(post(X_API_Key="sesame"))
                assert answer(connection)[0] == 200
            (tmp_path / "keys").write_text("another\n")
            statuses = []

            def refused() -> bool:
                connection.send(post(X_API_Key="sesame"))
                statuses.append(answer(connection)[0])
                return statuses[-1] != 200

            wait_for(refused)
        assert statuses[-1] == 401

    def test_every_path_but_the_probes_and_the_documentation_needs_a_key(self, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        assert [httpx.get(url + path).status_code for path in ("/models", "/docsx", "/no")] == [401] * 3
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert httpx.get(url + path).status_code == 200, path
        script = re.search(r'src="(docs/[^"]+)"', httpx.get(f"{url}/docs").text)
        assert script is not None
        assert httpx.get(f"{url}/{script[1]}").status_code == 200
        assert httpx.get(f"{url}/models", headers={"X-API-Key": "sesame"}).status_code == 200


class TestOrigins:
    """A service that other origins' pages may call."""

    @pytest.fixture
    def url(self, start_server: Callable[..., int]) -> str:
        return f"http://127.0.0.1:{start_server(cors_origins='https://here.example')}"

    def test_a_page_of_a_listed_origin_may_read_the_answer(self, url: str) -> None:
        page = httpx.post(f"{url}/encode", json=DIGIT, headers={"Origin": "https://here.example"})
        assert (page.status_code, page.headers["access-control-allow-origin"]) == (200, "https://here.example")

    def test_a_preflight_request_of_a_listed_origin_succeeds(self, url: str) -> None:
        asked = {"Origin": "https://here.example", "Access-Control-Request-Method": "POST"}
        assert httpx.options(f"{url}/encode", headers=asked).status_code == 200

    def test_a_page_of_another_origin_may_not(self, url: str) -> None:
        page = httpx.post(f"{url}/encode", json=DIGIT, headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in page.headers

    def test_without_the_setting_no_page_may(self, port: int) -> None:
        page = httpx.post(f"http://127.0.0.1:{port}/encode", json=DIGIT, headers={"Origin": "https://here.example"})
        assert "access-control-allow-origin" not in page.headers


def test_pages_cannot_be_framed_and_have_a_policy(port: int) -> None:
    headers = httpx.get(f"http://127.0.0.1:{port}/docs").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
