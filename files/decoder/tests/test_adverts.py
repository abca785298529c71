"""Every captured advert gives the values that its source vouches for, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from decoder.pipeline import Pipeline

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "adverts.jsonl").read_text().splitlines()
]
SELF = {"time", "model", "rssi"}


def reading_of(message: dict[str, Any], models: dict[str, str]) -> dict[str, Any]:
    pipeline = Pipeline("site", models, lambda *_: None)
    mac = message["id"].replace(":", "")
    out = pipeline.handle(f"site/gw/BTtoMQTT/{mac}".encode(), json.dumps(message).encode())
    booked = (
        pipeline.decoded
        + pipeline.unknown
        + sum(n for key, n in pipeline.counts.items() if key.startswith("rejected_"))
    )
    assert booked == 1
    if out is None:
        return {}
    assert out[0] == f"site/decoder/gw/{mac}".encode()
    reading: dict[str, Any] = json.loads(out[1])
    assert all(type(value) in (int, float) for key, value in reading.items() if key not in ("time", "model"))
    return reading


def check(row: dict[str, Any], reading: dict[str, Any]) -> None:
    values = {key: value for key, value in reading.items() if key not in SELF}
    for name, wanted in row["reading"].items():
        assert values.pop(name, None) == pytest.approx(wanted, abs=0.006), (name, reading)
    for name in row.get("never", ()):
        assert name not in values
    for name, value in values.items():
        assert name in row["tolerated"], (name, reading)
        assert value == pytest.approx(row["tolerated"][name], abs=0.006)


def in_map(row: dict[str, Any]) -> dict[str, str]:
    return {row["message"]["id"].replace(":", ""): row["model"]} if row["model"] else {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_device_in_the_map(row: dict[str, Any]) -> None:
    check(row, reading_of(row["message"], in_map(row)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_device_not_in_the_map(row: dict[str, Any]) -> None:
    reading = reading_of(row["message"], {})
    # Plain BTHome v1 borrows the UUID of another service: only the map can vouch for it.
    if "v1" in row["kinds"]:
        assert reading == {}
    else:
        check(row, reading)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["model"] and "name" in r["message"]], ids=lambda row: row["case"]
)
def test_name_not_heard_but_device_in_the_map(row: dict[str, Any]) -> None:
    message = {key: value for key, value in row["message"].items() if key != "name"}
    check(row, reading_of(message, in_map(row)))
