"""Grafana (a stand-in where the real one cannot be had): login, data source, data for each panel."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from lab.site import Site


class Grafana:
    """Grafana's HTTP interface."""

    def __init__(self, site: Site, password: str) -> None:
        self.url = f"http://{site.ops.address}:3000"
        self.login = base64.b64encode(f"admin:{password}".encode()).decode()

    def call(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Basic {self.login}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def grafana(site: Site, vault: dict[str, Any]) -> Grafana:
    return Grafana(site, vault["vault_grafana_admin_password"])


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [p for p in dashboard["panels"] if p.get("targets")]


def test_a_default_password_does_not_open_it(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        Grafana(site, "admin").call("/api/datasources")


def test_the_data_source_is_there_without_a_click(grafana: Grafana) -> None:
    (source,) = grafana.call("/api/datasources")
    assert (source["uid"], source["type"], source["isDefault"]) == ("influxdb", "influxdb", True)


def test_every_panel_of_every_dashboard_gets_data(grafana: Grafana) -> None:
    found = grafana.call("/api/search?type=dash-db")
    assert {d["title"] for d in found} == {"Environment"}
    for entry in found:
        dashboard = grafana.call(f"/api/dashboards/uid/{entry['uid']}")["dashboard"]
        assert panels(dashboard)
        for panel in panels(dashboard):
            queries = [t | {"query": with_all(t["query"])} for t in panel["targets"]]
            results = grafana.call("/api/ds/query", {"queries": queries, "from": "now-15m", "to": "now"})[
                "results"
            ]
            for target in queries:
                assert results[target["refId"]]["rows"], f"{panel['title']}: no data"


def with_all(query: str) -> str:
    """A query as Grafana sends it with all rooms and sources chosen."""
    for name in ("room", "source"):
        for form in (f"${{{name}:regex}}", f"${{{name}}}", f"${name}"):
            query = query.replace(form, ".*")
    return query


def test_temperatures_are_shown_in_the_sites_unit(grafana: Grafana, site: Site) -> None:
    dashboard = grafana.call("/api/dashboards/uid/environment")["dashboard"]
    units = {p["fieldConfig"]["defaults"].get("unit") for p in panels(dashboard)}
    wanted, other = ("fahrenheit", "celsius") if site.temperature_unit == "F" else ("celsius", "fahrenheit")
    assert wanted in units
    assert other not in units
