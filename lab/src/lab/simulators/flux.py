"""Grafana's side of a Flux query: the variables it fills in, and InfluxDB's annotated CSV as rows. Pure."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
_RELATIVE = re.compile(r"now(?:-(\d+)([smhdwMy]))?")
_EPOCH_MS = re.compile(r"\d{10,}")


def time_of(text: object, now: datetime) -> datetime:
    """
    Return the time that a request's `from` or `to` means: milliseconds since 1970, `now-6h`, or RFC 3339.

    ValueError if it is none of these.
    """
    wanted = str(text)
    if relative := _RELATIVE.fullmatch(wanted):
        back = int(relative[1] or 0) * _UNITS[relative[2] or "s"]
        return now - timedelta(seconds=back)
    if _EPOCH_MS.fullmatch(wanted):
        return datetime.fromtimestamp(int(wanted) / 1000, UTC)
    return datetime.fromisoformat(wanted)


@dataclass(frozen=True)
class Window:
    """What a query is asked for: a time range and the step between two points in ms."""

    start: datetime
    stop: datetime
    step: int
    bucket: str
    organization: str

    def fill(self, query: str) -> str:
        """Return the query with Grafana's Flux variables filled in."""
        values = {
            r"v\.timeRangeStart\b": _rfc3339(self.start),
            r"v\.timeRangeStop\b": _rfc3339(self.stop),
            r"v\.windowPeriod\b": f"{self.step}ms",
            r"v\.defaultBucket\b": f'"{self.bucket}"',
            r"v\.organization\b": f'"{self.organization}"',
            r"\$__interval_ms\b": str(self.step),
            r"\$__interval\b": f"{self.step}ms",
        }
        for pattern, value in values.items():
            query = re.sub(pattern, value.replace("\\", r"\\"), query)
        return query


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def step_of(start: datetime, stop: datetime, interval_ms: object, max_points: object) -> int:
    """Return the step in ms: as asked, else the range divided by the points that fit, at least one second."""
    if isinstance(interval_ms, int) and interval_ms > 0:
        return interval_ms
    points = max_points if isinstance(max_points, int) and max_points > 0 else 100
    return max(1000, int((stop - start).total_seconds() * 1000 / points))


class FluxError(Exception):
    """InfluxDB reported an error within its answer."""


_TYPES: dict[str, Callable[[str], object]] = {
    "double": float,
    "long": int,
    "unsignedLong": int,
    "boolean": lambda text: text == "true",
}


def rows(text: str) -> list[dict[str, object]]:
    """
    Return the rows of an annotated CSV answer (annotations datatype, group, default), one dict a row.

    Numbers and booleans become Python values, times stay text, an empty field is None. FluxError if the
    answer carries an error table; ValueError if it is no such CSV.
    """
    found: list[dict[str, object]] = []
    types: list[str] = []
    defaults: list[str] = []
    header: list[str] = []
    for line in csv.reader(io.StringIO(text)):
        if not line or not any(line):
            header = []
        elif line[0] == "#datatype":
            types, header, defaults = line[1:], [], []
        elif line[0] == "#default":
            defaults = line[1:]
        elif line[0].startswith("#"):
            continue
        elif not header:
            header = line[1:]
        else:
            found.append(_row(header, types, defaults, line[1:]))
    return found


def _row(header: list[str], types: list[str], defaults: list[str], cells: list[str]) -> dict[str, object]:
    kinds = types or ["string"] * len(header)
    usual = defaults or [""] * len(header)
    row: dict[str, object] = {}
    for name, kind, default, cell in zip(header, kinds, usual, cells, strict=True):
        value = cell or default
        row[name] = _TYPES.get(kind, str)(value) if value else None
    if "error" in row and "_value" not in row:
        raise FluxError(str(row["error"]))
    return row
