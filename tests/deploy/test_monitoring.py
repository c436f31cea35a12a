"""The alerts and the dashboard name what the service has. tests/containers runs them in Prometheus."""

from __future__ import annotations

import json
import re

from harness.paths import ROOT
from service.settings import Settings
from service.telemetry.families import FAMILIES

MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = (MONITORING / "alerts.yml").read_text()
DASHBOARD = json.loads((MONITORING / "grafana" / "vae.json").read_text())


def test_every_metric_is_one_of_the_services() -> None:
    known = {f"{family.name}{end}" for family in FAMILIES for end in ("", "_total", "_bucket", "_sum", "_count")}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    for text in (" ".join(queries), ALERTS):
        asked = set(re.findall(r"\bvae_\w+", text))
        assert asked
        assert asked - known <= {"vae_build_info"}


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    cases = (MONITORING / "alerts_test.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    assert alerts
    for alert in alerts:
        assert re.search(rf"- alertname: {alert}\n.*\n\s+exp_alerts:", cases), alert


def test_a_queue_fills_when_half_of_it_is_taken() -> None:
    assert f"vae_queue_depth_images > {Settings.model_fields['queue'].default // 2}" in ALERTS


def test_panels_lie_beside_each_other_and_have_numbers_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_is_given_the_source_and_the_files_that_the_dashboard_needs() -> None:
    source = (MONITORING / "grafana" / "datasources.yml").read_text()
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert uids == set(re.findall(r"uid: (\w+)", source))
    interval = re.findall(r"scrape_interval: (\w+)", (MONITORING / "prometheus.yml").read_text())
    assert re.findall(r"timeInterval: (\w+)", source) == interval
    mounted = re.findall(r"- (\./[\w./-]+):", (ROOT / "docker-compose.yml").read_text())
    assert len(mounted) == 4
    assert [path for path in mounted if not (ROOT / path).exists()] == []
