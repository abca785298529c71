"""From sensor to query: names, rooms, units, times, both paths, and who may do what on the broker."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from scenario import Client, Database, documents, eventually

from lab.control import truth
from lab.site import Site

TAGS = {"site", "source", "source_node", "room", "device_name", "sensor_type", "z_device_id"}


def test_every_sensor_is_in_the_database_with_name_room_and_true_value(
    site: Site, database: Database
) -> None:
    eventually(lambda: full(database, site))
    true = sent_within(site, seconds=6)
    rows = database.newest("-4s")
    # A sensor may have spoken between the last look and the query.
    for key, values in sent_within(site, seconds=1).items():
        true[key] |= values
    for sensor in site.sensors:
        mine = [r for r in rows if r["z_device_id"] == sensor["id"] and r["source_node"] != "govee2mqtt"]
        assert {(r["device_name"], r["room"]) for r in mine} == {(sensor["name"], sensor["room"])}
        for row in [r for r in mine if r["sensor_type"] in {"temperature", "humidity"}]:
            values = true[sensor["id"], row["sensor_type"]]
            assert any(abs(float(row["_value"]) - value) < 0.06 for value in values), (row, values)


def sent_within(site: Site, seconds: float) -> dict[tuple[str, str], set[float]]:
    """True values that the simulated sensors sent while we looked on."""
    seen: dict[tuple[str, str], set[float]] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for sensor, values in truth(site).items():
            for quantity in ("temperature", "humidity"):
                seen.setdefault((sensor, quantity), set()).add(values[quantity])
        time.sleep(0.2)
    return seen


def full(database: Database, site: Site) -> list[dict[str, str]]:
    """Newest rows once every sensor came through every gateway, else nothing."""
    rows = database.newest()
    gateways = {h.name for h in site.of_kind("esp32", "theengs")}
    wanted = {(sensor["id"], gateway) for sensor in site.sensors for gateway in gateways}
    got = {(r["z_device_id"], r["source_node"]) for r in rows if r["sensor_type"] == "temperature"}
    return rows if wanted <= got else []


def test_a_point_has_the_contracts_tags_and_field(database: Database) -> None:
    rows = database.query(
        'from(bucket: "sensors") |> range(start: -2m) |> filter(fn: (r) => r._measurement == "reading")'
        " |> last() |> group() |> limit(n: 500)"
    )
    assert {r["_field"] for r in rows} == {"value"}
    columns = {c for c in rows[0] if not c.startswith("_") and c not in {"", "result", "table"}}
    assert columns == TAGS
    assert {r["source"] for r in rows} == {"dpx_ops_decoder", "gv_cloud"}


def test_a_known_advert_becomes_exactly_one_point_a_quantity_at_its_time(
    site: Site, client: Callable[..., Client], database: Database
) -> None:
    gateway, sensor = site.of_kind("esp32")[0].name, site.sensors[0]
    assert sensor["model"] == "H5075"
    crew = client("crew", f"{site.name}/decoder/{gateway}/{sensor['id']}")
    # -12.3 °C, 45.6 %, 77 %: n = 123456 with the sign bit, as H5075 sends it.
    raw = "88ec00" + f"{0x800000 | 123456:06x}" + f"{77:02x}" + "00"
    advert = {
        "id": ":".join(sensor["id"][i : i + 2] for i in range(0, 12, 2)),
        "rssi": -51,
        "manufacturerdata": raw,
    }
    asked = datetime.now(UTC)
    client(gateway).mqtt.publish(f"{site.name}/{gateway}/BTtoMQTT/{sensor['id']}", json.dumps(advert), qos=1)

    def mine() -> list[dict[str, Any]]:
        return [
            r
            for _, r in documents(list(crew.heard))
            if r.get("rssi") == advert["rssi"] and r["temperature"] == -12.3
        ]

    (reading,) = eventually(mine)
    assert (reading["temperature"], reading["humidity"], reading["battery"]) == (-12.3, 45.6, 77)
    when = datetime.fromisoformat(reading["time"])
    assert abs(when - asked) < timedelta(seconds=5)
    flux = f"""
        from(bucket: "sensors") |> range(start: -2m)
        |> filter(fn: (r) => r.z_device_id == "{sensor["id"]}" and r.source_node == "{gateway}")
        |> filter(fn: (r) => r._time == time(v: "{reading["time"]}")) |> group()
    """
    rows = eventually(lambda: database.query(flux) if len(database.query(flux)) == 4 else [])
    assert {r["sensor_type"]: float(r["_value"]) for r in rows} == {
        "temperature": -12.3,
        "humidity": 45.6,
        "battery": 77.0,
        "rssi": -51.0,
    }
    assert {r["device_name"] for r in rows} == {sensor["name"]}


def test_the_cloud_path_lands_on_the_same_device(site: Site, database: Database) -> None:
    in_cloud = {s["id"]: s["name"] for s in site.sensors if "cloud_id" in s}
    assert in_cloud

    def cloud() -> list[dict[str, str]]:
        return [r for r in database.newest("-2m") if r["source_node"] == "govee2mqtt"]

    rows = eventually(lambda: cloud() if {row["z_device_id"] for row in cloud()} >= set(in_cloud) else [], 90)
    assert {(r["z_device_id"], r["device_name"]) for r in rows} == set(in_cloud.items())
    true = truth(site)
    for row in [r for r in rows if r["sensor_type"] == "temperature"]:
        assert abs(float(row["_value"]) - true[row["z_device_id"]]["temperature"]) <= 1.0, "°C, not °F"


def test_no_stranger_becomes_a_named_sensor(site: Site, database: Database) -> None:
    known = {s["id"] for s in site.sensors}
    strangers = [r for r in database.newest("-5m") if r["z_device_id"] not in known]
    for row in strangers:
        assert (row["device_name"], row["room"]) == (row["z_device_id"], "unassigned")


def test_nothing_but_status_is_retained(site: Site, client: Callable[..., Client]) -> None:
    crew = client("crew", "#")
    eventually(lambda: len(crew.heard) > 20)
    retained = {m.topic for m in crew.heard if m.retain}
    assert f"{site.name}/decoder/status" in retained
    assert {t for t in retained if not t.endswith(("/LWT", "/decoder/status"))} == set()


def test_the_decoders_figures_are_a_measurement_of_their_own(site: Site, database: Database) -> None:
    flux = """
        from(bucket: "sensors") |> range(start: -1m)
        |> filter(fn: (r) => r._measurement == "decoder") |> last() |> group()
    """
    rows = eventually(lambda: database.query(flux))
    fields = {r["_field"] for r in rows}
    assert {"adverts", "decoded", "queue"} <= fields
    assert {h.name for h in site.of_kind("esp32", "theengs")} <= {r.get("gateway", "") for r in rows}


@pytest.mark.parametrize("user", ["nobody", "crew"])
def test_nobody_enters_without_the_right_password(client: Callable[..., Client], user: str) -> None:
    assert "Not authorized" in client(user, password="wrong").refused


def test_each_account_does_its_own_and_nothing_else(site: Site, client: Callable[..., Client]) -> None:
    esp, nuc = site.of_kind("esp32")[0].name, site.of_kind("theengs")[0].name
    listener = client(
        "crew", f"{site.name}/+/probe", f"{site.name}/decoder/+/probe", "gv2mqtt/sensor/probe/state"
    )
    allowed = [(esp, f"{site.name}/{esp}/probe"), ("decoder", f"{site.name}/decoder/probe")]
    denied = [
        (esp, f"{site.name}/{nuc}/probe"),
        (esp, f"{site.name}/decoder/{esp}/probe"),
        ("telegraf", f"{site.name}/{esp}/probe"),
        ("crew", f"{site.name}/{esp}/probe"),
        ("health", f"{site.name}/{esp}/probe"),
        (nuc, "gv2mqtt/sensor/probe/state"),
    ]
    for user, topic in [*denied, *allowed]:
        client(user).mqtt.publish(topic, json.dumps({"by": user, "on": topic}), qos=1).wait_for_publish(10)
    eventually(lambda: len(listener.heard) >= len(allowed))
    assert sorted((m["by"], m["on"]) for _, m in documents(listener.heard)) == sorted(allowed)


def test_a_gateway_hears_its_own_commands_alone(site: Site, client: Callable[..., Client]) -> None:
    esp, nuc = site.of_kind("esp32")[0].name, site.of_kind("theengs")[0].name
    spy = client(nuc, "#", f"{site.name}/{esp}/commands/#")
    client("crew").mqtt.publish(f"{site.name}/{esp}/commands/probe", "x", qos=1).wait_for_publish(10)
    client("crew").mqtt.publish(f"{site.name}/{nuc}/commands/probe", "x", qos=1).wait_for_publish(10)
    eventually(lambda: spy.heard)
    assert {m.topic for m in spy.heard if "commands" in m.topic} == {f"{site.name}/{nuc}/commands/probe"}
