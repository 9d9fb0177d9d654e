import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.queries import exported, faults, parse

GRAFANA = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/cifarserve.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _expressions() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


@pytest.mark.parametrize(("title", "expression"), list(_expressions()))
def test_panels_ask_for_what_servers_export(title: str, expression: str) -> None:
    """Every expression parses, and names metrics and labels that exist."""
    assert title
    assert not faults(parse(expression))


def test_dashboard_has_a_row_for_each_question() -> None:
    """Traffic, latency, batches, queue, models, predictions, process."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert rows == [
        "Traffic and errors", "Latency", "Batches", "Queue", "Models", "Predictions", "Process and device"
    ]  # fmt: skip


def test_every_metric_of_the_server_is_shown() -> None:
    """Nothing is measured that nobody can see."""
    shown = "\n".join(expression for _, expression in _expressions())
    metrics = {name for name in exported() if name.startswith("cifarserve_")}
    unseen = {name for name in metrics if name.rsplit("_", 1)[0] not in shown and name not in shown}

    assert unseen == UNSEEN


# Rates of the same events as metrics that are shown, and the state of certificates and logs: for queries by hand.
UNSEEN = {
    "cifarserve_certificate_expiry_timestamp_seconds",
    "cifarserve_credential_reads_total",
    "cifarserve_executed_images_total",
    "cifarserve_lost_access_lines_total",
    "cifarserve_model_loads_total",
}


def test_panels_do_not_overlap() -> None:
    """Grafana's 24 columns are kept to, and each panel has its own number and place."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_provisioning_leads_to_the_dashboard() -> None:
    """The panels' data source is the provisioned one, and the dashboard lies where Grafana is told to look."""
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/cifarserve.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]

    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] in mounts
