"""The numbers in the files of deploy/ for HAProxy and nginx agree with the defaults of the service's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from harness.balancers import HAPROXY, NGINX
from harness.paths import ROOT
from service.settings import Settings, variable

SETTINGS: Final = Settings()
UNITS: Final = {"": 1.0, "ms": 1e-3, "s": 1.0, "k": 2.0**10, "m": 2.0**20}
DEADLINE: Final = SETTINGS.deadline_ms / 1000

# What the documents tell operators to set, for time to notice a drain.
PAUSE: Final = 5.0


def haproxy(directive: str) -> float:
    """The number that follows a directive in HAProxy's file, in seconds or bytes."""
    return _number(HAPROXY.read_text(), directive)


def nginx(directive: str, block: str = "http") -> float:
    """The number that follows a directive in nginx's file, in seconds or bytes; of a block with this name."""
    text = NGINX.read_text()
    start = re.search(rf"^( *){block} \{{$", text, re.MULTILINE)
    assert start
    inside = text[start.end() : text.index(f"\n{start[1]}}}", start.end())]
    return _number("\n".join(re.findall(rf"^{start[1]}  \S.*$", inside, re.MULTILINE)), directive)


def _number(text: str, directive: str) -> float:
    found = re.findall(rf"^ *{directive} (\d+)([a-z]*);?(?: .*)?$", text, re.MULTILINE)
    assert len(found) == 1, (directive, found)
    return float(found[0][0]) * UNITS[found[0][1]]


class TestConnections:
    def test_idle_ones_are_closed_by_the_balancer_first(self) -> None:
        assert nginx("keepalive_timeout", "upstream instances") < SETTINGS.keep_alive_seconds
        # HAProxy has no such number: what is closed under a request that it sends is sent again.
        assert re.search(r"^ *retry-on conn-failure empty-response$", HAPROXY.read_text(), re.MULTILINE)
        assert haproxy("timeout http-keep-alive") < SETTINGS.keep_alive_seconds

    def test_the_service_ends_what_is_silent_first(self) -> None:
        assert haproxy("timeout client") > SETTINGS.keep_alive_seconds
        assert haproxy("http-request set-timeout server") > SETTINGS.keep_alive_seconds


class TestDeadlines:
    def test_the_service_gives_up_before_the_balancer(self) -> None:
        assert haproxy("timeout server") > DEADLINE
        assert nginx("proxy_read_timeout") > DEADLINE

    def test_a_request_that_timed_out_is_not_sent_again(self) -> None:
        assert "timeout" not in re.findall(r"^ *retry-on (.*)$", HAPROXY.read_text(), re.MULTILINE)[0]
        assert nginx("proxy_connect_timeout") < nginx("proxy_next_upstream_timeout") < nginx("proxy_read_timeout")


class TestSizes:
    def test_a_body_may_be_as_long_as_without_the_balancer(self) -> None:
        assert nginx("client_max_body_size") == SETTINGS.max_body_bytes

    def test_a_head_may_be_as_long_as_without_the_balancer(self) -> None:
        reserved = 1024  # tune.maxrewrite
        assert haproxy("tune.bufsize") - reserved >= SETTINGS.max_header_bytes
        assert nginx("large_client_header_buffers 4") >= SETTINGS.max_header_bytes

    def test_no_more_clients_than_two_instances_take(self) -> None:
        assert haproxy("maxconn") == nginx("worker_connections", "events") == 2 * SETTINGS.max_connections


class TestDrain:
    def test_health_checks_see_it_within_the_pause(self) -> None:
        checks = re.findall(r"^ *default-server check inter (\d+)s fall (\d+) rise \d+$", HAPROXY.read_text(), re.M)
        inter, fall = map(int, checks[0])
        assert inter * fall + haproxy("timeout check") < PAUSE

    @pytest.mark.parametrize("path", [HAPROXY, NGINX, ROOT / "docs" / "balancers.md"], ids=lambda path: path.name)
    def test_the_pause_is_named(self, path: Path) -> None:
        assert set(re.findall(rf"{variable('drain_pause_seconds')}=(\d+)", path.read_text())) == {f"{PAUSE:g}"}

    def test_checks_ask_for_readiness(self) -> None:
        assert re.search(r"^ *http-check send meth GET uri /readyz ", HAPROXY.read_text(), re.MULTILINE)


def test_settings_in_comments_have_their_defaults() -> None:
    for path in (HAPROXY, NGINX):
        found = re.findall(r"VAE_([A-Z_]+) \((\d+)( s)?\)", path.read_text())
        assert found, path.name
        for name, said, unit in found:
            value = getattr(SETTINGS, name.lower())
            assert float(said) == (value / 1000 if unit else value), (path.name, name)
