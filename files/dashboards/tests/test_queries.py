"""Every query on a real InfluxDB: set INFLUXD to the program to run these."""

import csv
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboards import Site, environment

INFLUXD = os.environ.get("INFLUXD", "influxd")
pytestmark = pytest.mark.slow

NOW = 1_780_000_000
RANGE_S = 6 * 3600
BLE = "source=dpx_ops_decoder"
LEFT, FOH, ICE = "z_device_id=A4C138000001", "z_device_id=A4C138000002", "z_device_id=17A8D003C1061976"


@dataclass
class Influx:
    url: str
    token: str = ""

    def call(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        headers = {"Content-Type": kind, "Authorization": f"Token {self.token}"}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.read()  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {error.read().decode()}\n{body.decode()}") from error

    def query(self, flux: str, room: str = ".*", source: str = ".*") -> list[dict[str, str]]:
        """Run a query as Grafana would, and return its rows."""
        flux = flux.replace("${room:regex}", room).replace("${source:regex}", source)
        for name, value in {
            "v.timeRangeStart": rfc3339(NOW - RANGE_S),
            "v.timeRangeStop": rfc3339(NOW),
            "v.windowPeriod": "60000ms",
        }.items():
            flux = flux.replace(name, value)
        answer = self.call("/api/v2/query?org=showsite", flux.encode(), "application/vnd.flux").decode()
        return [
            {key: value for key, value in row.items() if key not in {"", "result", "table"}}
            for part in re.split(r"\r\n\r\n", answer)
            for row in csv.DictReader(part.splitlines())
        ]


def rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def point(tags: str, kind: str, value: float, ago: int) -> str:
    return f"reading,site=coachella,{tags},sensor_type={kind} value={value} {NOW - ago}"


def points() -> Iterator[str]:
    """Two sensors by two gateways, one of them also by cloud and with a probe; one dead; one cloud-only."""
    left = f"{LEFT},room=stage,device_name=stage_left"
    for ago in range(30, 3600, 10):
        yield point(f"{BLE},source_node=nuc,{left}", "temperature", 30.0, ago)
    for ago in range(35, 3600, 10):
        yield point(f"{BLE},source_node=esp,{left}", "temperature", 32.0, ago)
    for node, rssi in (("nuc", -60.0), ("esp", -80.0)):
        for kind, value in (("humidity", 55.0), ("battery", 88.0), ("rssi", rssi), ("temperature_1", -10.0)):
            yield point(f"{BLE},source_node={node},{left}", kind, value, 40)
    yield point(f"source=gv_cloud,source_node=govee2mqtt,{left}", "temperature", 29.0, 900)
    # Renamed and moved an hour ago, silent for two days before.
    yield point(f"{BLE},source_node=nuc,{FOH},room=shop,device_name=old_name", "temperature", 50.0, 5000)
    yield point(f"{BLE},source_node=nuc,{FOH},room=foh,device_name=foh", "temperature", 20.0, 1200)
    yield point(
        f"{BLE},source_node=nuc,z_device_id=A4C138000009,room=foh,device_name=dead", "rssi", -70.0, 172800
    )
    ice = f"source=gv_cloud,source_node=govee2mqtt,{ICE},room=unassigned,device_name=ice_truck"
    yield point(ice, "temperature", -18.0, 1000)
    # Another measurement and field in the same bucket must not show.
    yield f"telegraf,room=stage,source=x value=99 {NOW - 10}"
    yield f"reading,{BLE},source_node=nuc,{left},sensor_type=temperature other=99 {NOW - 10}"


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    folder = tmp_path_factory.mktemp("influx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    arguments = [str(INFLUXD), "--bolt-path", folder / "bolt", "--engine-path", folder / "engine"]
    arguments += ["--sqlite-path", folder / "sqlite", "--http-bind-address", address, "--reporting-disabled"]
    with (
        Path(folder / "log").open("wb") as log,
        subprocess.Popen(arguments, stdout=log, stderr=log) as process,
    ):
        try:
            yield filled(Influx(f"http://{address}"), process)
        finally:
            process.terminate()


def filled(influx: Influx, process: subprocess.Popen[bytes]) -> Influx:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(influx.url + "/ping", timeout=5):
                break
        except OSError:
            assert process.poll() is None, "influxd ended"
            assert time.monotonic() < deadline, "influxd does not answer"
            time.sleep(0.2)
    setup = {"username": "admin", "password": "only-for-this-test", "org": "showsite", "bucket": "sensors"}
    influx.token = json.loads(influx.call("/api/v2/setup", json.dumps(setup).encode()))["auth"]["token"]
    lines = "\n".join(points()).encode()
    influx.call("/api/v2/write?org=showsite&bucket=sensors&precision=s", lines, "text/plain")
    return influx


def board(unit: str = "C") -> dict[str, Any]:
    return environment(Site("coachella", unit, "UTC"))  # type: ignore[arg-type]


def query_of(title: str, unit: str = "C") -> str:
    (panel,) = [panel for panel in board(unit)["panels"] if panel["title"] == title]
    return panel["targets"][0]["query"]  # type: ignore[no-any-return]


def series(rows: list[dict[str, str]]) -> dict[str, list[float]]:
    found = defaultdict(list)
    for row in rows:
        assert set(row) == {"_time", "_value", "_field"}
        found[row["_field"]].append(float(row["_value"]))
    return dict(found)


def test_temperature_is_a_curve_per_sensor_gateway_and_path(influx: Influx) -> None:
    curves = series(influx.query(query_of("Temperature")))
    assert set(curves) == {
        "stage_left · BLE nuc",
        "stage_left · BLE esp",
        "stage_left_1 · BLE nuc",
        "stage_left_1 · BLE esp",
        "stage_left · cloud",
        "old_name · BLE nuc",
        "foh · BLE nuc",
        "ice_truck · cloud",
    }
    assert set(curves["stage_left · BLE nuc"]) == {30.0}
    assert len(curves["stage_left · BLE nuc"]) in {60, 61}


def test_fahrenheit_is_converted_once(influx: Influx) -> None:
    curves = series(influx.query(query_of("Temperature", "F")))
    assert curves["ice_truck · cloud"] == [pytest.approx(-0.4)]
    assert set(curves["stage_left · BLE nuc"]) == {86.0}
    assert series(influx.query(query_of("Temperature now, by room", "F")))["stage"] == [pytest.approx(89.6)]
    rows = {
        (row["device_name"], row["source_node"]): row
        for row in influx.query(query_of("Latest values by room", "F"))
    }
    row = rows["stage_left", "nuc"]
    assert (row["temperature"], row["temperature_1"], row["humidity"]) == ("86", "14", "55")


def test_each_curve_is_in_order_of_time(influx: Influx) -> None:
    for title in ("Temperature", "Humidity", "Signal by gateway"):
        times = defaultdict(list)
        for row in influx.query(query_of(title)):
            times[row["_field"]].append(row["_time"])
        assert times
        assert all(found == sorted(found) for found in times.values())


def test_a_room_shows_its_warmest_fresh_sensor_under_its_newest_room(influx: Influx) -> None:
    rooms = series(influx.query(query_of("Temperature now, by room")))
    assert rooms == {"stage": [32.0], "foh": [20.0], "unassigned": [-18.0]}


def test_humidity_battery_and_signal(influx: Influx) -> None:
    both = {"stage_left · BLE nuc", "stage_left · BLE esp"}
    assert set(series(influx.query(query_of("Humidity")))) == both
    signal = series(influx.query(query_of("Signal by gateway")))
    assert signal == {"stage_left · BLE nuc": [-60.0], "stage_left · BLE esp": [-80.0]}
    assert series(influx.query(query_of("Battery"))) == {"stage_left": [88.0]}


def test_a_dead_sensor_is_seen_by_its_age(influx: Influx) -> None:
    assert series(influx.query(query_of("Age of data"))) == {
        "stage_left · BLE": [30.0],
        "stage_left · cloud": [900.0],
        "foh · BLE": [1200.0],
        "dead · BLE": [172800.0],
        "ice_truck · cloud": [1000.0],
    }


def test_the_table_has_a_row_per_sensor_and_gateway(influx: Influx) -> None:
    rows = influx.query(query_of("Latest values by room"))
    found = [
        (row["room"], row["device_name"], row["source_node"], row["temperature"], row["age"]) for row in rows
    ]
    assert found == [
        ("foh", "foh", "nuc", "20", "1200"),
        ("stage", "stage_left", "esp", "32", "35"),
        ("stage", "stage_left", "govee2mqtt", "29", "900"),
        ("stage", "stage_left", "nuc", "30", "30"),
        ("unassigned", "ice_truck", "govee2mqtt", "-18", "1000"),
    ]
    assert (rows[1]["humidity"], rows[1]["battery"], rows[1]["rssi"]) == ("55", "88", "-80")
    assert rows[2]["battery"] == ""


def test_the_variables_choose(influx: Influx) -> None:
    found = {
        variable["name"]: sorted(row["_value"] for row in influx.query(variable["query"]["query"]))
        for variable in board()["templating"]["list"]
    }
    assert found["source"] == ["dpx_ops_decoder", "gv_cloud"]
    assert found["room"] == ["foh", "shop", "stage", "unassigned"]
    curves = series(influx.query(query_of("Temperature"), room="(foh|stage)", source="gv_cloud"))
    assert set(curves) == {"stage_left · cloud"}


def test_no_panel_fails_on_an_empty_range(influx: Influx) -> None:
    for panel in board("F")["panels"]:
        for target in panel.get("targets", []):
            assert influx.query(target["query"], room="nowhere") == []
