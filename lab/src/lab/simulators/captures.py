"""Adverts that real devices sent, kept in data/captures.jsonl with the public source of each."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lab.simulators.advert import Advert, Truth


@dataclass(frozen=True)
class Capture:
    """Manufacturer data (hex) of a captured advert of `model`, and what it says."""

    model: str
    manufacturerdata: str
    truth: Truth


def _lines() -> list[dict[str, object]]:
    text = files("lab.simulators").joinpath("data", "captures.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@cache
def readings() -> tuple[Capture, ...]:
    """Return the captures that carry a full reading, to be replayed under a site's own MAC."""
    return tuple(
        Capture(str(line["model"]), str(line["manufacturerdata"]), Truth(**line["reading"]))  # type: ignore[arg-type]  # our own file
        for line in _lines()
        if line["model"] is not None
    )


@cache
def foreign() -> tuple[Advert, ...]:
    """Return adverts of devices that are nobody's sensors: phones, televisions, other makers' ids."""
    keys = ("name", "rssi", "manufacturerdata", "servicedata", "servicedatauuid")
    return tuple(
        Advert(mac=str(line["mac"]), **{key: line[key] for key in keys})  # type: ignore[arg-type]  # our own file
        for line in _lines()
        if line["model"] is None
    )
