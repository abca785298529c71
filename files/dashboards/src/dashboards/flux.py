"""
The Flux text of every panel and variable.

Points (contract in the design): measurement `reading`, field `value`, tags `site`, `source`
(`dpx_ops_decoder` = BLE, `gv_cloud`), `source_node` (gateway), `room`, `device_name`, `sensor_type`,
`z_device_id`; SI units. Each query returns a table per series and puts the series' name into `_field`, which
Grafana takes as its name. Curves go through `aggregateWindow`; latest values through `last()`, which the
storage engine answers without reading the range.
"""

from dashboards.site import Site

# A dead sensor must stay in sight for longer than the time range that a screen shows.
AGE_LOOK_BACK = "7d"
# The cloud brings a value every 15 minutes, and late; what is older than this is no "now".
FRESH = "35m"

_ALL = "true"
_PATH = 'if r.source == "gv_cloud" then " · cloud" else " · BLE'
_AGE_S = "float(v: int(v: v.timeRangeStop) - int(v: r._time)) / 1000000000.0"


def curves(site: Site, kind: str) -> str:
    """Return means of `kind` and its probes over the panel's windows, a series per device and gateway."""
    # Probes are `temperature_1` and so on: the number joins the name.
    device = f'r.device_name + strings.trimPrefix(v: r.sensor_type, prefix: "{kind}")'
    return (
        'import "strings"\n\n'
        + _readings(site, "v.timeRangeStart", _kind(kind))
        + "  |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)\n"
        + _series(f'{device} + ({_PATH} " + r.source_node)', _in_unit(site, kind))
    )


def now_by_room(site: Site) -> str:
    """Return the highest fresh temperature of each room."""
    return (
        'import "date"\n\n'
        + _latest(site, _back(FRESH), _kind("temperature"))
        + '  |> group(columns: ["room"])\n  |> max()\n'
        + _series("r.room", _in_unit(site, "temperature"))
    )


def battery(site: Site) -> str:
    """Return the last battery level of each device, %."""
    return (
        _latest(site, "v.timeRangeStart", _kind("battery"))
        + _newest("z_device_id")
        + _series("r.device_name")
    )


def age(site: Site) -> str:
    """Return the seconds since the last reading of each device, by path."""
    return (
        'import "date"\n\n'
        + _latest(site, _back(AGE_LOOK_BACK), _ALL)
        + _newest("z_device_id", "source")
        + _series(f'r.device_name + ({_PATH}")', _AGE_S)
    )


def latest_table(site: Site) -> str:
    """Return one table: a row per device and gateway, a column per kind of reading, and `age` in seconds."""
    row = _names("room", "device_name", "source_node", "z_device_id")
    value = f"if {_kind('temperature')} then {_in_unit(site, 'temperature')} else r._value"
    return (
        "latest = "
        + _latest(site, "v.timeRangeStart", _ALL)
        + f"  |> map(fn: (r) => ({{r with _value: {value}}}))\n"
        + "\nages = latest\n"
        + _newest("z_device_id", "source_node")
        + f'  |> map(fn: (r) => ({{r with sensor_type: "age", _value: {_AGE_S}}}))\n'
        + "\nunion(tables: [latest, ages])\n  |> group()\n"
        + f'  |> pivot(rowKey: {row}, columnKey: ["sensor_type"], valueColumn: "_value")\n'
        + '  |> sort(columns: ["room", "device_name", "source_node"])\n'
    )


def tag_values(site: Site, tag: str) -> str:
    """Return the values of `tag` within the dashboard's time range, for a variable."""
    return (
        'import "influxdata/influxdb/schema"\n\n'
        f'schema.tagValues(bucket: "{site.bucket}", tag: "{tag}", '
        'predicate: (r) => r._measurement == "reading", start: v.timeRangeStart, stop: v.timeRangeStop)\n'
    )


def _readings(site: Site, start: str, chosen: str) -> str:
    return (
        f'from(bucket: "{site.bucket}")\n'
        f"  |> range(start: {start}, stop: v.timeRangeStop)\n"
        '  |> filter(fn: (r) => r._measurement == "reading" and r._field == "value")\n'
        + (f"  |> filter(fn: (r) => {chosen})\n" if chosen != _ALL else "")
        + "  |> filter(fn: (r) => r.room =~ /^${room:regex}$/ and r.source =~ /^${source:regex}$/)\n"
    )


def _latest(site: Site, start: str, chosen: str) -> str:
    """Return the last reading of each kind, device and gateway, under the newest name and room."""
    return (
        _readings(site, start, chosen)
        + "  |> last()\n"
        + _newest("z_device_id", "source_node", "sensor_type")
    )


def _newest(*per: str) -> str:
    return f'  |> group(columns: {_names(*per)})\n  |> sort(columns: ["_time"])\n  |> last()\n'


def _series(name: str, value: str = "r._value") -> str:
    """Return a series per name; of two devices with one name (a replaced sensor) the newest value is last."""
    return (
        f"  |> map(fn: (r) => ({{_time: r._time, _value: {value}, _field: {name}}}))\n"
        '  |> group(columns: ["_field"])\n'
        '  |> sort(columns: ["_time"])\n'
    )


def _in_unit(site: Site, kind: str) -> str:
    """Return a reading as the crew reads it: the one place where stored °C become °F."""
    return "r._value * 1.8 + 32.0" if kind == "temperature" and site.temperature_unit == "F" else "r._value"


def _kind(kind: str) -> str:
    return f"r.sensor_type =~ /^{kind}(_[0-9]+)?$/"


def _back(duration: str) -> str:
    return f"date.sub(from: v.timeRangeStop, d: {duration})"


def _names(*columns: str) -> str:
    return "[" + ", ".join(f'"{column}"' for column in columns) + "]"
