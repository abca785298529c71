import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pytest

from dashboards import Site, environment
from dashboards.__main__ import main


def site(unit: Literal["F", "C"] = "F") -> Site:
    return Site("coachella", unit, "America/Los_Angeles", bucket="bucket7", datasource_uid="uid7")


@pytest.fixture(params=["F", "C"])
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return environment(site(request.param))


def targets(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel, target


def panel(board: dict[str, Any], title: str) -> dict[str, Any]:
    (found,) = [panel for panel in board["panels"] if panel["title"] == title]
    return found  # type: ignore[no-any-return]


def test_it_is_classic_json(board: dict[str, Any]) -> None:
    assert board["panels"]
    assert not {"spec", "elements", "apiVersion", "kind"} & set(board)
    assert (board["uid"], board["title"]) == ("environment", "Environment")
    assert board["schemaVersion"] == 41
    assert board.get("id") is None


def test_it_is_the_site_s_own(board: dict[str, Any]) -> None:
    assert board["timezone"] == "America/Los_Angeles"
    assert (board["refresh"], board["time"]) == ("10s", {"from": "now-6h", "to": "now"})
    assert "coachella" in board["tags"]
    assert board["editable"] is False


def test_panels_have_ids_of_their_own_and_do_not_overlap(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in board["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= 24
        assert min(place["w"], place["h"]) >= 1
    for a, b in combinations(places, 2):
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, (a, b)


def test_all_asked_for_is_there(board: dict[str, Any]) -> None:
    shown = {(panel["type"], panel["title"]) for panel in board["panels"] if panel["type"] != "row"}
    assert shown == {
        ("stat", "Temperature now, by room"),
        ("timeseries", "Temperature"),
        ("timeseries", "Humidity"),
        ("table", "Latest values by room"),
        ("bargauge", "Age of data"),
        ("gauge", "Battery"),
        ("timeseries", "Signal by gateway"),
    }


def test_every_query_goes_to_the_site_s_data_and_is_bounded(board: dict[str, Any]) -> None:
    queries = list(targets(board))
    assert len(queries) == 7
    for panel_, target in queries:
        assert target["datasource"] == {"type": "influxdb", "uid": "uid7"}
        assert panel_["datasource"] == target["datasource"]
        query = target["query"]
        assert 'from(bucket: "bucket7")' in query
        assert 'r._measurement == "reading"' in query
        assert "v.timeRangeStop" in query
        assert (panel_.get("maxDataPoints", 9999) <= 500) == (panel_["type"] == "timeseries")
        assert ("aggregateWindow(every: v.windowPeriod" in query) == (panel_["type"] == "timeseries")
        assert ("|> last()" in query) == (panel_["type"] != "timeseries")


def test_variables_filter_every_panel_and_show_both_sources_at_first(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == {"room", "source"}
    for name, variable in variables.items():
        assert variable["type"] == "query"
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"
        assert variable["current"]["value"] == ["$__all"]
        assert variable["datasource"]["uid"] == "uid7"
        assert f'schema.tagValues(bucket: "bucket7", tag: "{name}"' in variable["query"]["query"]
        assert 'r._measurement == "reading"' in variable["query"]["query"]
    for _, target in targets(board):
        assert "r.room =~ /^${room:regex}$/ and r.source =~ /^${source:regex}$/" in target["query"]


def test_no_device_room_gateway_or_site_is_written_into_a_query(board: dict[str, Any]) -> None:
    """Every text in a query is a tag, a path, an import or part of a name: nothing of a certain site."""
    known = {
        "date",
        "strings",
        "bucket7",
        "reading",
        "value",
        "gv_cloud",
        "temperature",
        "humidity",
        "rssi",
        "age",
    }
    known |= {"_field", "_time", "_value", "z_device_id", "source", "source_node", "sensor_type", "room"}
    known |= {"device_name", " · cloud", " · BLE", " · BLE "}
    for _, target in targets(board):
        assert set(re.findall(r'"([^"]*)"', target["query"])) <= known


@pytest.mark.parametrize(
    ("unit", "grafana", "limits"), [("F", "fahrenheit", [95.0, 104.0]), ("C", "celsius", [35.0, 40.0])]
)
def test_a_site_reads_its_own_unit(unit: Literal["F", "C"], grafana: str, limits: list[float]) -> None:
    board = environment(site(unit))
    for title in ("Temperature", "Temperature now, by room"):
        defaults = panel(board, title)["fieldConfig"]["defaults"]
        assert defaults["unit"] == grafana
        assert [step["value"] for step in defaults["thresholds"]["steps"]] == [None, *limits]
    overrides = panel(board, "Latest values by room")["fieldConfig"]["overrides"]
    assert grafana in [p["value"] for o in overrides for p in o["properties"] if p["id"] == "unit"]
    converted = {p["title"] for p, target in targets(board) if "* 1.8 + 32.0" in target["query"]}
    everywhere = {"Temperature", "Temperature now, by room", "Latest values by room"}
    assert converted == (everywhere if unit == "F" else set())


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="write F or C"):
        site("K")  # type: ignore[arg-type]


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    arguments = ["--site", "stagecoach", "--unit", "C", "--timezone", "Europe/Berlin", "--out", str(tmp_path)]
    assert main(arguments) == 0
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written == environment(Site("stagecoach", "C", "Europe/Berlin"))
