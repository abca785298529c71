"""Bytes -> readings. Pure: no clock, no counters, no I/O, so results are cached by what they depend on."""

import json
from functools import lru_cache
from typing import Final, NamedTuple

from decoder import gates
from decoder.advert import RejectedError, raw_from_fields
from decoder.libraries import Found, bthome, govee

# A further sensor library: its module here.
LIBRARIES: Final = (govee.decode, bthome.decode)

# A sensor repeats the same bytes for minutes; this holds several hundred sensors. An entry is about 1.5 kB.
CACHED: Final = 4096


class Result(NamedTuple):
    """
    What one advert yields.

    `reason`: why nothing goes out (empty: something does); `unknown` is no fault, the air is full of it.
    `dropped`: values that a gate took out, each as its counted word.
    `body`, `rest`: the reading as JSON members after its time, with its events and without; `rest` is empty
    when only events came. `event_id` is empty when there is no event.
    """

    reason: str = ""
    model: str = ""
    values: tuple[tuple[str, float], ...] = ()
    events: tuple[tuple[str, float], ...] = ()
    event_id: str = ""
    dropped: tuple[str, ...] = ()
    body: str = ""
    rest: str = ""


def finish(found: Found) -> Result:
    """
    Gate what was found and write it as JSON.

    A battery over 100 % is an error bit, so then nothing of the message is believed.
    """
    dropped: list[str] = []
    values = _gated(found.values, found.model, dropped)
    events = _gated(found.events, found.model, dropped) if found.events else ()
    if "battery" in dropped:
        return Result("battery")
    if not values and not events:
        return Result(dropped[0] if dropped else "no_values", dropped=tuple(dropped))
    model = _quoted(found.model)
    rest = model + _members(values) if values else ""
    return Result(
        model=found.model,
        values=values,
        events=events,
        event_id=found.event_id if events else "",
        dropped=tuple(dropped),
        body=(rest or model) + _members(events),
        rest=rest,
    )


def _gated(found: dict[str, float], model: str, dropped: list[str]) -> tuple[tuple[str, float], ...]:
    kept = []
    for name, value in found.items():
        refused = gates.refusal(name, value, model)
        if refused:
            dropped.append(refused)
        else:
            kept.append((name, value + 0))  # True becomes 1 and -0.0 becomes 0.0
    return tuple(kept)


def _members(pairs: tuple[tuple[str, float], ...]) -> str:
    return "".join([f',"{name}":{value!r}' for name, value in pairs])


@lru_cache(maxsize=512)
def _quoted(model: str) -> str:
    return f'"model":{json.dumps(model)}'


@lru_cache(maxsize=CACHED)
def decode(
    manufacturer: str | None, service: str | None, uuid: str | None, name: str | None, model: str | None
) -> Result:
    """
    Turn one advert's raw fields into what goes out.

    Hex fields as the gateways write them; `name` empty or None if not heard; `model` what the map says of
    this device, None if it is not in the map: then only adverts that name their model count. Never raises.
    """
    try:
        raw = raw_from_fields(manufacturer, service, uuid, name or "")
        for library in LIBRARIES:
            found = library(raw, model)
            if found is not None:
                return finish(found)
    except RejectedError as reason:
        return Result("unknown" if model is None and not _ours(name or "") else str(reason))
    except Exception:  # noqa: BLE001  a library met bytes it cannot take: counted like any other bad advert
        return Result("library")
    return Result("unknown" if model is None else "layout")


def _ours(name: str) -> bool:
    return govee.heard_model(name) is not None or name in bthome.SHELLY
