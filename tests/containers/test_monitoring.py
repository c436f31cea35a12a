"""Prometheus scrapes the container, and every query of the dashboard and every alert works on what it has."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2 as httpx
import pytest

from harness.digits import base64_png, digits
from harness.paths import ROOT
from harness.servers import wait_for
from tests.containers.conftest import Stack
from tests.containers.docker import run

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "vae.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def ask(prometheus: str, path: str, **parameters: str) -> Any:
    """What Prometheus says; without an error."""
    answer = httpx.get(f"{prometheus}/api/v1/{path}", params=parameters).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def has_data(prometheus: str, query: str) -> bool:
    """Whether a query gives numbers. 0/0 is none."""
    return any(sample["value"][1] != "NaN" for sample in ask(prometheus, "query", query=query)["result"])


def ask_everything(client: httpx.Client) -> None:
    """Requests of every kind that the dashboard shows, good ones and a bad one."""
    pictures = {"images": [base64_png(digits()[0])]}
    for route in ("/encode", "/reconstruct", "/score"):
        assert client.post(route, json=pictures).status_code == 200
    assert client.post("/sample", json={"n": 16}).status_code == 200
    assert client.post("/encode", json={"images": ["no picture"]}).status_code == 422


def ask_too_late(client: httpx.Client) -> None:
    """A request whose deadline passes."""
    assert client.post("/sample", json={"n": 1024}, headers={"x-request-timeout-ms": "1"}).status_code == 504


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[str]:
    """The address of Prometheus, which has seen requests come, and sees more of them as long as it is asked."""
    stop = threading.Event()

    def traffic() -> None:
        with httpx.Client(base_url=stack.service.url, timeout=60) as client:
            turns = itertools.count(1)
            while not stop.wait(0.2):
                ask_everything(client)
                if next(turns) % 10 == 0:  # one in 51 requests; for more than one in 20 VaeRefuses fires
                    ask_too_late(client)

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(traffic)
        try:
            late = 'rate(vae_rejected_total{reason="deadline"}[1m]) > 0'
            wait_for(lambda: asking.done() or has_data(stack.prometheus, late))
            yield stack.prometheus
        finally:
            stop.set()
            asking.result()


def test_prometheus_finds_the_service(prometheus: str) -> None:
    (target,) = ask(prometheus, "targets")["activeTargets"]
    assert (target["labels"]["job"], target["health"], target["lastError"]) == ("vae", "up", "")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_each_query_of_the_dashboard_returns_data(prometheus: str, query: str) -> None:
    wait_for(partial(has_data, prometheus, query))


def test_each_alert_is_evaluated_and_none_fires(prometheus: str) -> None:
    wait_for(lambda: all(rule["health"] != "unknown" for rule in rules(prometheus)))
    assert len(rules(prometheus)) == (MONITORING / "alerts.yml").read_text().count("- alert:")
    for rule in rules(prometheus):
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule
        assert rule["state"] != "firing", rule


def test_each_metric_that_an_alert_names_is_there(prometheus: str) -> None:
    named = set(re.findall(r"\b(?:up|vae_\w+)\b", " ".join(rule["query"] for rule in rules(prometheus))))
    assert len(named) > 8
    for name in named:
        assert has_data(prometheus, name), name


def rules(prometheus: str) -> list[Any]:
    """The alerts, as Prometheus has read them."""
    return [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]


def test_each_alert_fires_when_it_should(promtool: Callable[..., str]) -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@pytest.fixture(scope="module")
def promtool() -> Callable[..., str]:
    """Prometheus' tool for rules: from the path, from .venv/bin, or from Prometheus' image."""
    found = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / ".venv" / "bin"))
    if found is not None:
        return lambda *arguments: run(found, *arguments, cwd=MONITORING)
    image = re.findall(r"PROMETHEUS_IMAGE:-([^}]+)", (ROOT / "docker-compose.yml").read_text())[0]
    options = ["--rm", "--volume", f"{MONITORING}:/rules:ro", "--workdir", "/rules", "--entrypoint", "promtool"]
    return lambda *arguments: run("docker", "run", *options, image, *arguments)
