"""Three sources into one list of devices, and that list into the two files. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from device_map.sources import CloudDevice, Entry, SourceError

NO_ROOM = "unassigned"
_MAC_DIGITS = 12


@dataclass(frozen=True)
class Device:
    """One line of the map. `id` is the MAC, or the cloud id where the MAC is not known."""

    id: str
    name: str
    room: str
    model: str
    cloud_ids: tuple[str, ...]
    source: str  # inventory, override or cloud: who has the last word on this device


def merge(
    inventory: dict[str, Entry], overrides: dict[str, Entry], cloud: Iterable[CloudDevice]
) -> list[Device]:
    """
    Return all devices in order of id; overrides win over the inventory, the cloud only fills gaps.

    Raises SourceError if two devices would carry the same name. The cloud's list may come in any order.
    """
    _check_names(inventory, overrides)
    cloud = sorted(set(cloud))
    owner = match_cloud_ids({device.key.upper() for device in cloud}, inventory, overrides)
    cloud_of = defaultdict(list)
    for device in cloud:
        cloud_of[owner.get(device.key.upper(), "")].append(device)
    known = [
        _known_device(inventory.get(mac), overrides.get(mac), cloud_of[mac]) for mac in inventory | overrides
    ]
    alone = [
        Device(d.key, d.name or d.key, d.room or NO_ROOM, d.model, (d.key,), "cloud") for d in cloud_of[""]
    ]
    return sorted(known + alone, key=lambda device: device.id)


def match_cloud_ids(
    cloud_ids: Iterable[str], inventory: dict[str, Entry], overrides: dict[str, Entry]
) -> dict[str, str]:
    """
    Return the MAC of each cloud id (upper case) whose sensor is certain; what is in doubt is left out.

    The MAC is often the last six bytes of the id, for some models the first six, plain or reversed.
    A wrong guess would mix two sensors' values, so an id with two candidates, or a MAC with two ids, is none.
    """
    explicit = {e.cloud_id.upper(): e.id for e in inventory.values() if e.cloud_id}
    macs = set(inventory) | set(overrides)
    guesses: dict[str, list[str]] = defaultdict(list)
    owner = {}
    for cloud_id in cloud_ids:
        if cloud_id in macs or cloud_id in explicit:
            owner[cloud_id] = explicit.get(cloud_id, cloud_id)
            continue
        candidates = _macs_within(cloud_id) & macs
        if len(candidates) == 1:
            guesses[candidates.pop()].append(cloud_id)
    taken = set(owner.values()) | set(explicit.values())
    owner |= {ids[0]: mac for mac, ids in guesses.items() if len(ids) == 1 and mac not in taken}
    return owner


def devices_json(devices: Iterable[Device]) -> str:
    """
    Return the text of `devices.json`, for Telegraf's `processors.lookup` with `format = "json"`.

    A cloud id that belongs to a MAC also sets the tag `z_device_id`, so both paths end on one device.
    """
    table: dict[str, dict[str, str]] = {}
    for device in devices:
        tags = {"device_name": device.name, "room": device.room}
        for key in device.cloud_ids:
            table[key] = tags if key == device.id else {**tags, "z_device_id": device.id}
        table[device.id] = tags
    return _json(table)


def models_json(devices: Iterable[Device]) -> str:
    """Return the text of `models.json`: MAC -> model, for the decoder."""
    return _json({d.id: d.model for d in devices if d.model and d.source != "cloud"})


def _json(table: object) -> str:
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def _macs_within(cloud_id: str) -> set[str]:
    first = cloud_id[:_MAC_DIGITS]
    reversed_first = bytes.fromhex(first)[::-1].hex().upper()
    return {first, cloud_id[-_MAC_DIGITS:], reversed_first}


def _known_device(listed: Entry | None, override: Entry | None, cloud: list[CloudDevice]) -> Device:
    entries = [entry for entry in (override, listed) if entry]
    mac = entries[0].id

    def first(field: str, default: str) -> str:
        values = [getattr(source, field) for source in (*entries, *cloud)]
        return next((value for value in values if value), default)

    keys = {device.key for device in cloud} | {e.cloud_id for e in entries if e.cloud_id}
    source = "override" if override else "inventory"
    return Device(
        mac, first("name", mac), first("room", NO_ROOM), first("model", ""), tuple(sorted(keys)), source
    )


def _check_names(inventory: dict[str, Entry], overrides: dict[str, Entry]) -> None:
    names: dict[str, str] = {}
    for mac in inventory | overrides:
        override, listed = overrides.get(mac), inventory.get(mac)
        name = (override and override.name) or (listed and listed.name) or mac
        other = names.setdefault(name.casefold(), mac)
        if other != mac:
            where = "the overrides" if {mac, other} & set(overrides) else "the inventory's `sensors:`"
            raise SourceError(f"{mac} and {other} would both be named {name!r}. Rename one in {where}")
