"""The stand-in for Grafana takes what Grafana takes, names the file that is wrong, and passes queries on."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.simulators import flux
from lab.simulators.grafana import Settings
from lab.simulators.grafana_files import ProvisioningError, expand, load
from lab.simulators.program import ConfigError
from lab.simulators.web import Answer, Request, serve

SOURCE = Path(__file__).parents[1] / "src"
PATIENCE = 20.0  # seconds; only a broken program needs them
LOGIN = "admin:long enough"
NOW = datetime(2026, 4, 10, 18, 0, tzinfo=UTC)

PANEL = {
    "id": 1,
    "type": "timeseries",
    "title": "Temperature",
    "gridPos": {"h": 8, "w": 12, "x": 0, "y": 0},
    "datasource": {"type": "influxdb", "uid": "influx"},
    "targets": [{"refId": "A", "query": "from(bucket: v.defaultBucket) |> range(start: v.timeRangeStart)"}],
}
DASHBOARD = {"id": None, "uid": "rooms", "title": "Rooms", "schemaVersion": 39, "panels": [PANEL]}
INFLUX = {
    "name": "InfluxDB",
    "uid": "influx",
    "type": "influxdb",
    "access": "proxy",
    "url": "http://$INFLUX_HOST:8086",
    "isDefault": True,
    "jsonData": {"version": "Flux", "organization": "showsite", "defaultBucket": "sensors"},
    "secureJsonData": {"token": "$__file{TOKEN_FILE}"},
}


class Files:
    """A provisioning folder that is right, to be made wrong by a test."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "provisioning"
        self.boards = folder / "dashboards"
        for path in (self.root / "datasources", self.root / "dashboards", self.boards):
            path.mkdir(parents=True)
        (folder / "token").write_text("a token\n", encoding="utf-8")
        self.token = folder / "token"
        self.source()
        self.provider()
        self.board("rooms")

    def source(self, host: str = "$INFLUX_HOST", port: int = 8086, **changes: object) -> None:
        item = {**INFLUX, "url": f"http://{host}:{port}", **changes}
        text = yaml.safe_dump({"apiVersion": 1, "prune": True, "datasources": [item]})
        path = self.root / "datasources" / "influxdb.yaml"
        path.write_text(text.replace("TOKEN_FILE", str(self.token)), encoding="utf-8")

    def provider(self, **changes: object) -> None:
        options = {"path": str(self.boards), "foldersFromFilesStructure": False}
        item = {"name": "site", "type": "file", "updateIntervalSeconds": 1, "options": options, **changes}
        text = yaml.safe_dump({"apiVersion": 1, "providers": [item]})
        (self.root / "dashboards" / "site.yaml").write_text(text, encoding="utf-8")

    def board(self, file: str, **changes: object) -> None:
        (self.boards / f"{file}.json").write_text(json.dumps({**DASHBOARD, **changes}), encoding="utf-8")

    def load(self) -> Any:
        return load(self.root, {"INFLUX_HOST": "influxdb"})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_right_files_are_taken_and_their_variables_filled_in(files: Files) -> None:
    state = files.load()
    assert state.sources["influx"].url == "http://influxdb:8086"
    assert state.sources["influx"].secrets == {"token": "a token"}
    assert state.dashboards["rooms"].title == "Rooms"


def panel(**changes: object) -> list[dict[str, object]]:
    return [{**PANEL, **changes}]


WRONG: dict[str, tuple[str, Callable[[Files], None], str]] = {
    "source key": ("influxdb.yaml", lambda f: f.source(orgid=1), "orgid"),
    "source json key": (
        "influxdb.yaml",
        lambda f: f.source(jsonData={**INFLUX["jsonData"], "organisation": "x"}),  # type: ignore[dict-item]
        "organisation",
    ),
    "source type": ("influxdb.yaml", lambda f: f.source(type="influx"), "influx"),
    "source uid": ("influxdb.yaml", lambda f: f.source(uid="in flux"), "in flux"),
    "flux version": ("influxdb.yaml", lambda f: f.source(jsonData={"version": "flux"}), "flux"),
    "no token": ("influxdb.yaml", lambda f: f.source(secureJsonData={}), "token"),
    "unset variable": ("influxdb.yaml", lambda f: f.source(host="$INFLUX_HOTS"), "INFLUX_HOTS"),
    "no token file": ("influxdb.yaml", lambda f: f.token.unlink(), "token"),
    "provider key": ("site.yaml", lambda f: f.provider(intervalSeconds=5), "intervalSeconds"),
    "provider path": ("site.yaml", lambda f: f.provider(options={"path": "/nowhere"}), "/nowhere"),
    "provider type": ("site.yaml", lambda f: f.provider(type="git"), "file"),
    "no json": ("rooms.json", lambda f: (f.boards / "rooms.json").write_text("{") and None, "rooms.json"),
    "v2": ("rooms.json", lambda f: f.board("rooms", elements={}), "v2"),
    "board key": ("rooms.json", lambda f: f.board("rooms", pannels=[]), "pannels"),
    "id": ("rooms.json", lambda f: f.board("rooms", id=7), "id"),
    "no panels": ("rooms.json", lambda f: f.board("rooms", panels=[]), "panels"),
    "same uid": ("wall.json", lambda f: f.board("wall", title="Wall"), "twice"),
    "same title": ("wall.json", lambda f: f.board("wall", uid="wall"), "twice"),
    "panel id": ("rooms.json", lambda f: f.board("rooms", panels=[PANEL, PANEL]), "of its own"),
    "panel grid": ("rooms.json", lambda f: f.board("rooms", panels=panel(gridPos={})), "gridPos"),
    "unknown source": (
        "rooms.json",
        lambda f: f.board("rooms", panels=panel(datasource={"type": "influxdb", "uid": "influxdb"})),
        "influxdb",
    ),
    "source of another type": (
        "rooms.json",
        lambda f: f.board("rooms", panels=panel(datasource={"type": "prometheus", "uid": "influx"})),
        "prometheus",
    ),
    "empty query": (
        "rooms.json",
        lambda f: f.board("rooms", panels=panel(targets=[{"refId": "A", "query": ""}])),
        "query",
    ),
    "variable's source": (
        "rooms.json",
        lambda f: f.board("rooms", templating={"list": [{"name": "room", "datasource": {"uid": "gone"}}]}),
        "gone",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_its_fault(files: Files, case: str) -> None:
    file, spoil, reason = WRONG[case]
    spoil(files)
    with pytest.raises(ProvisioningError) as error:
        files.load()
    assert file in str(error.value)
    assert reason in str(error.value)


def test_a_data_source_variable_and_grafanas_own_sources_are_known(files: Files) -> None:
    variable = {"name": "ds", "type": "datasource", "query": "influxdb"}
    files.board("rooms", templating={"list": [variable]}, panels=panel(datasource={"uid": "${ds}"}))
    assert files.load().dashboards
    files.board("rooms", annotations={"list": [{"name": "a", "datasource": {"uid": "-- Grafana --"}}]})
    assert files.load().dashboards


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_a_text_without_dollar_stays_as_it_is(text: str) -> None:
    assert expand({"key": [text]}, {}) == {"key": [text]}
    assert expand(f"$${text}", {}) == f"${text}"
    assert expand("${NAME}$NAME", {"NAME": text}) == text + text


def test_the_environment_must_hold_a_password_that_is_not_the_default(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("long enough\n", encoding="utf-8")
    good = Settings.from_environment(
        {"GF_SECURITY_ADMIN_PASSWORD__FILE": str(secret), "GF_LOG_MODE": "console"}
    )
    assert (good.user, good.password, good.port) == ("admin", "long enough", 3000)
    wrong: list[dict[str, str]] = [
        {},
        {"GF_SECURITY_ADMIN_PASSWORD": "admin"},
        {"GF_SECURITY_ADMIN_PASSWORD__FILE": "/nowhere"},
        {"GF_SECURITY_ADMIN_PASSWORD__FILE": str(secret), "GF_SECURITY_ADMIN_PASSWORD": "x"},
    ]
    for environment in wrong:
        with pytest.raises(ConfigError):
            Settings.from_environment(environment)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", NOW),
        ("now-6h", NOW - timedelta(hours=6)),
        ("1775844000000", NOW),
        (1775844000000, NOW),
        ("2026-04-10T18:00:00Z", NOW),
    ],
)
def test_the_times_of_a_request(text: object, time: datetime) -> None:
    assert flux.time_of(text, NOW) == time


def test_grafanas_variables_are_filled_in() -> None:
    window = flux.Window(NOW - timedelta(hours=1), NOW, 30000, "sensors", "showsite")
    query = "from(bucket: v.defaultBucket) |> range(start: v.timeRangeStart, stop: v.timeRangeStop)"
    query += " |> aggregateWindow(every: v.windowPeriod, fn: mean) // $__interval $__interval_ms"
    assert window.fill(query) == (
        'from(bucket: "sensors") |> range(start: 2026-04-10T17:00:00.000Z, stop: 2026-04-10T18:00:00.000Z)'
        " |> aggregateWindow(every: 30000ms, fn: mean) // 30000ms 30000"
    )
    assert flux.step_of(NOW - timedelta(hours=1), NOW, None, 60) == 60_000


CSV = """#datatype,string,long,dateTime:RFC3339,double,string,boolean\r
#group,false,false,false,false,true,true\r
#default,_result,,,,,\r
,result,table,_time,_value,room,ok\r
,,0,2026-04-10T17:00:00Z,21.5,"FOH, left",true\r
,,0,2026-04-10T17:01:00Z,,"FOH, left",false\r
\r
#datatype,string,long,double\r
#group,false,false,false\r
#default,last,,\r
,result,table,_value\r
,,1,-3\r
"""


def test_annotated_csv_becomes_rows() -> None:
    first = {"result": "_result", "table": 0, "_time": "2026-04-10T17:00:00Z", "_value": 21.5}
    assert flux.rows(CSV)[0] == {**first, "room": "FOH, left", "ok": True}
    assert flux.rows(CSV)[1]["_value"] is None
    assert flux.rows(CSV)[2] == {"result": "last", "table": 1, "_value": -3.0}
    assert flux.rows("") == []
    with pytest.raises(flux.FluxError, match="too many"):
        flux.rows("#datatype,string,string\n#group,true,true\n#default,,\n,error,reference\n,too many,897\n")


# --- the program, with a fake InfluxDB behind it


class Influx:
    """Answers every query with CSV, or with an error if the query says `boom`; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.server = serve("127.0.0.1", 0, self._answer)

    def _answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if b"boom" in request.body:
            return Answer({"code": "invalid", "message": "compilation failed"}, 400)
        return Answer(CSV.encode(), 200, "text/csv")


class Grafana:
    """The stand-in as a program."""

    def __init__(self, files: Files, influx: Influx) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        files.source("127.0.0.1", influx.server.server_port)
        password = files.root.parent / "password"
        password.write_text("long enough\n", encoding="utf-8")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GF_")}
        self.environment = {
            **clean,
            "PYTHONPATH": str(SOURCE),
            "GF_SERVER_HTTP_PORT": str(self.port),
            "GF_SECURITY_ADMIN_PASSWORD__FILE": str(password),
            "GF_PATHS_PROVISIONING": str(files.root),
        }
        command = [sys.executable, "-m", "lab.simulators.grafana"]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)

    def ask(self, method: str, path: str, body: object = None, login: str = LOGIN) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        header = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        connection.request(method, path, json.dumps(body), header)
        answer = connection.getresponse()
        return answer.status, json.load(answer)

    def up(self) -> bool:
        try:
            return self.ask("GET", "/api/health")[0] == 200
        except OSError:
            return False


def wait_for(look: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    pytest.fail(f"never seen: {what}")


@pytest.fixture
def influx() -> Iterator[Influx]:
    some = Influx()
    yield some
    some.server.shutdown()
    some.server.server_close()


@pytest.fixture
def grafana(files: Files, influx: Influx) -> Iterator[Grafana]:
    some = Grafana(files, influx)
    wait_for(some.up, "the health page")
    yield some
    some.process.kill()
    some.process.communicate()


def test_the_api_shows_what_the_files_say_and_asks_for_the_password(grafana: Grafana) -> None:
    assert grafana.ask("GET", "/api/health") == (200, {"database": "ok", "version": "13.2.3-standin"})
    assert grafana.ask("GET", "/api/datasources", login="admin:admin")[0] == 401
    (source,) = grafana.ask("GET", "/api/datasources")[1]
    assert (source["uid"], source["jsonData"]["defaultBucket"]) == ("influx", "sensors")
    assert "a token" not in json.dumps(source)
    (found,) = grafana.ask("GET", "/api/search?type=dash-db")[1]
    assert (found["uid"], found["title"]) == ("rooms", "Rooms")
    status, board = grafana.ask("GET", "/api/dashboards/uid/rooms")
    assert (status, board["dashboard"]["panels"][0]["title"]) == (200, "Temperature")
    assert grafana.ask("GET", "/api/dashboards/uid/none")[0] == 404
    grafana.process.send_signal(signal.SIGTERM)
    assert grafana.process.wait(PATIENCE) == 0


def test_a_query_goes_to_influxdb_with_the_variables_filled_in(grafana: Grafana, influx: Influx) -> None:
    query = {"refId": "A", "datasource": {"uid": "influx"}, "query": PANEL["targets"][0]["query"]}  # type: ignore[index]
    times = {"from": "1775840400000", "to": "1775844000000"}
    status, answer = grafana.ask("POST", "/api/ds/query", {"queries": [query], **times})
    assert (status, len(answer["results"]["A"]["rows"])) == (200, 3)
    asked = influx.asked[-1]
    assert (asked.headers["authorization"], asked.query["org"]) == ("Token a token", ["showsite"])
    sent = json.loads(asked.body)["query"]
    assert sent == 'from(bucket: "sensors") |> range(start: 2026-04-10T17:00:00.000Z)'

    status, answer = grafana.ask("POST", "/api/ds/query", {"queries": [{**query, "query": "boom"}], **times})
    assert status == 400
    assert "compilation failed" in answer["results"]["A"]["error"]
    unknown = {**query, "datasource": {"uid": "none"}}
    assert grafana.ask("POST", "/api/ds/query", {"queries": [unknown], **times})[0] == 400
    assert grafana.ask("POST", "/api/ds/query", {"queries": "all"})[0] == 400


def test_a_reload_takes_right_files_and_refuses_wrong_ones(grafana: Grafana, files: Files) -> None:
    reload = "/api/admin/provisioning/dashboards/reload"
    files.board("wall", uid="wall", title="Wall")
    assert grafana.ask("POST", reload)[0] == 200
    assert len(grafana.ask("GET", "/api/search")[1]) == 2
    files.board("wall", uid="wall", title="Wall", spec={})
    status, answer = grafana.ask("POST", reload)
    assert status == 500
    assert "wall.json" in answer["message"]
    assert len(grafana.ask("GET", "/api/search")[1]) == 2


def test_changed_dashboards_are_seen_without_a_reload(grafana: Grafana, files: Files) -> None:
    files.board("rooms", title="Rooms and stages")
    wait_for(lambda: grafana.ask("GET", "/api/search")[1][0]["title"] == "Rooms and stages", "the new title")


def test_it_does_not_start_with_a_wrong_file(files: Files, influx: Influx) -> None:
    files.board("rooms", panels=[])
    some = Grafana(files, influx)
    _, errors = some.process.communicate(timeout=PATIENCE)
    assert some.process.returncode == 1
    assert errors.startswith("grafana INFO This is the lab's STAND-IN")
    assert "rooms.json" in errors
