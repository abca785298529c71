"""The Environment dashboard."""

import json

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards import flux, panels
from dashboards.site import Site


def environment(site: Site) -> dict[str, object]:
    """Return the Environment dashboard of `site` as classic JSON, ready for Grafana's file provider."""
    board = (
        dashboard.Dashboard("Environment")
        .uid("environment")
        .description(f"Temperature, humidity and the health of the sensors at {site.name}.")
        .tags(["showsite", "environment", site.name])
        .timezone(site.timezone)
        .refresh("10s")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(_variable(site, "room", "Room", "Rooms heard in the time range."))
        .with_variable(
            _variable(site, "source", "Source", "dpx_ops_decoder: BLE gateways; gv_cloud: the Govee cloud.")
        )
    )
    number = 0
    for title, row in _rows(site).items():
        number += 1
        board.with_row(dashboard.Row(title).id(number))
        for panel, width, height in row:
            number += 1
            board.with_panel(panel.id(number).span(width).height(height))
    result: dict[str, object] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return result


def _rows(site: Site) -> dict[str, list[tuple[panels.Panel, int, int]]]:
    """Return the panels with width (of 24) and height, by row."""
    return {
        "Now": [(panels.rooms_now(site), 24, 5)],
        "Climate": [(panels.temperature(site), 24, 12), (panels.humidity(site), 24, 9)],
        "Sensors": [
            (panels.latest(site), 24, 10),
            (panels.age(site), 12, 10),
            (panels.battery(site), 12, 10),
            (panels.signal(site), 24, 9),
        ],
    }


def _variable(site: Site, tag: str, label: str, description: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(tag)
        .label(label)
        .description(description)
        .datasource(panels.source_of(site))
        .query({"refId": "A", "query": flux.tag_values(site, tag)})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
