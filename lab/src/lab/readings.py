"""The newest readings of a rehearsed site, out of its InfluxDB, as a table."""

import csv
import io
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

from lab import boxes
from lab.console import Problem
from lab.site import Site

UNITS = {"temperature": "°C", "humidity": "%", "battery": "%", "rssi": "dBm"}
SHOWN = ("temperature", "humidity", "battery")
NEWEST = """
from(bucket: "sensors") |> range(start: -1h)
  |> filter(fn: (r) => r._measurement == "reading")
  |> group(columns: ["device_name", "room", "sensor_type", "source_node", "z_device_id"])
  |> last() |> group() |> keep(columns:
    ["_time", "_value", "device_name", "room", "sensor_type", "source_node", "z_device_id"])
"""


def token(site: Site) -> str:
    """The site's token for reading, from where the site host keeps it."""
    path = "/opt/showsite/influxdb/tokens/readings"
    try:
        return boxes.on_ops(site, f"sudo cat {path}")
    except Problem as problem:
        raise Problem(f"{site.name} is not up: run `make rehearse SITE={site.name}` first.") from problem


def query(site: Site, flux: str, with_token: str) -> list[dict[str, str]]:
    """Rows of a Flux query; a Problem where InfluxDB does not answer."""
    request = urllib.request.Request(
        f"http://{site.ops.address}:8086/api/v2/query?org=showsite",
        data=flux.encode(),
        headers={
            "Authorization": f"Token {with_token}",
            "Content-Type": "application/vnd.flux",
            "Accept": "application/csv",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  as above
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Problem(f"InfluxDB refuses the query: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise Problem(f"InfluxDB at {site.ops.address}:8086 does not answer: {error}") from error
    return list(csv.DictReader(io.StringIO(text.replace("\r\n", "\n"))))


def shown(value: float, kind: str, unit: str) -> tuple[str, str]:
    """A value as the crew reads it, with its unit; `unit` is the site's for temperatures, F or C."""
    if kind == "temperature" and unit == "F":
        return f"{value * 9 / 5 + 32:.1f}", "°F"
    return f"{value:.1f}" if kind in {"temperature", "humidity"} else f"{value:.0f}", UNITS.get(kind, "")


def newest(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Of each device and quantity the newest row of the radio path and that of the cloud."""
    best: dict[tuple[str, str, bool], dict[str, str]] = {}
    for row in rows:
        key = (row["z_device_id"], row["sensor_type"], row["source_node"] == "govee2mqtt")
        if row["sensor_type"] in SHOWN and (key not in best or row["_time"] > best[key]["_time"]):
            best[key] = row
    order = {kind: index for index, kind in enumerate(SHOWN)}
    return sorted(
        best.values(),
        key=lambda r: (r["room"], r["device_name"], order[r["sensor_type"]], r["source_node"]),
    )


def table(rows: list[dict[str, str]], unit: str, now: datetime) -> str:
    """Text of the table; ages in seconds against `now`."""
    lines = [("device", "room", "quantity", "value", "unit", "age", "gateway")]
    for row in newest(rows):
        value, of = shown(float(row["_value"]), row["sensor_type"], unit)
        age = (now - datetime.fromisoformat(row["_time"])).total_seconds()
        gateway = row["source_node"]
        lines.append(
            (row["device_name"], row["room"], row["sensor_type"], value, of, f"{age:.1f} s", gateway)
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = {3, 5}
    return "\n".join(
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def show(site: Site, *, watch: bool) -> None:
    """Print the table once, or again every two seconds until interrupted."""
    with_token = token(site)
    while True:
        text = table(query(site, NEWEST, with_token), site.temperature_unit, datetime.now(UTC))
        print(f"\033[H\033[2J{text}" if watch else text, flush=True)
        if not watch:
            return
        time.sleep(2)
