"""The three sources as text in, checked entries out. No files, no network."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_map.identity import checked_name, cloud_key, mac12, tidied_name

if TYPE_CHECKING:
    from collections.abc import Callable

INVENTORY_KEYS = ("id", "name", "room", "model")
OVERRIDE_KEYS = ("name", "room", "model")
CLOUD_ID_DIGITS = 16


class SourceError(Exception):
    """A source cannot be used; the text names the file, the entry and the remedy."""


@dataclass(frozen=True)
class Entry:
    """What the inventory or the overrides say of one sensor; None where they say nothing."""

    id: str
    name: str | None = None
    room: str | None = None
    model: str | None = None
    cloud_id: str | None = None


@dataclass(frozen=True, order=True)
class CloudDevice:
    """A device as the Govee cloud knows it; `key` is its id as in the topic, empty text = not known."""

    key: str
    name: str
    room: str
    model: str


def parse_inventory(text: str, where: str) -> dict[str, Entry]:
    """Return the entries of the inventory's list by MAC, or raise SourceError."""
    items = _load(text, where)
    if not isinstance(items, list):
        raise SourceError(f"{where}: expected a list of sensors: {INVENTORY_KEYS}. Run site.yml again")
    entries: dict[str, Entry] = {}
    cloud_ids: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        at = f"{where}: sensor {number}"
        fields = _text_fields(item, at, required=INVENTORY_KEYS, optional=("cloud_id",))
        entry = _entry(fields, f"{at} ({fields['id']})")
        if entry.id in entries:
            raise SourceError(f"{at}: id {entry.id} is listed twice. Remove one in the site's `sensors:`")
        if entry.cloud_id and cloud_ids.setdefault(entry.cloud_id.upper(), entry.id) != entry.id:
            raise SourceError(f"{at}: cloud_id {entry.cloud_id} belongs to two sensors. Correct `sensors:`")
        entries[entry.id] = entry
    return entries


def parse_overrides(text: str, where: str) -> dict[str, Entry]:
    """Return the overrides made on site by MAC, or raise SourceError."""
    items = _load(text, where)
    if not isinstance(items, dict):
        raise SourceError(f'{where}: expected {{"<MAC>": {{"name": …}}}}. Correct the file or remove it')
    entries: dict[str, Entry] = {}
    for key, item in items.items():
        at = f"{where}: entry {key!r}"
        entry = _entry({"id": key, **_text_fields(item, at, optional=OVERRIDE_KEYS)}, at)
        if entry.id in entries:
            raise SourceError(f"{at}: the same sensor twice, in two spellings. Remove one of them")
        entries[entry.id] = entry
    return entries


def parse_api(body: bytes) -> list[CloudDevice]:
    """
    Return the devices in an answer of govee2mqtt's `/api/devices`, sorted; raise SourceError.

    Format: wez/govee2mqtt, src/service/http.rs: a list of objects with `id`, `name`, `sku` and `room` (text
    or null) and more. Ids that are not hex (groups of lights) have no sensor topic and are left out.
    """
    items = _load(body, "answer")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise SourceError("answer is no list of devices")
    devices: dict[str, CloudDevice] = {}
    for device in sorted(_cloud_devices(items)):
        devices.setdefault(device.key, device)
    if not devices:
        raise SourceError("answer lists no device")
    return list(devices.values())


def _cloud_devices(items: list[dict[str, Any]]) -> list[CloudDevice]:
    found = []
    for item in items:
        texts = [item.get(key) or "" for key in ("id", "name", "room", "sku")]
        if not all(isinstance(text, str) for text in texts) or not texts[0]:
            raise SourceError("answer has a device without the known fields: another version of govee2mqtt?")
        try:
            key = cloud_key(texts[0])
        except ValueError:
            continue
        model = tidied_name(texts[3]).upper()
        found.append(CloudDevice(key, tidied_name(texts[1]), tidied_name(texts[2]), model))
    return found


def _load(text: str | bytes, where: str) -> Any:  # noqa: ANN401  JSON is anything until looked at
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        start = text[:40]
        raise SourceError(f"{where}: not valid JSON ({error}), begins {start!r}. Correct it") from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"a key occurs twice among {sorted(key for key, _ in pairs)}"[:200])
    return result


def _text_fields(
    item: object, at: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the fields of an entry that are set; a misspelt key must not be silently lost."""
    if not isinstance(item, dict):
        raise SourceError(f"{at}: expected fields {required + optional}, found {str(item)[:40]!r}")
    fields = {key: value for key, value in item.items() if value is not None}
    if missing := [key for key in required if key not in fields]:
        raise SourceError(f"{at}: {', '.join(missing)} missing. Add it")
    if unknown := sorted(set(fields) - set(required + optional)):
        raise SourceError(
            f"{at}: unknown field {', '.join(unknown)}. Known: {', '.join(required + optional)}"
        )
    if wrong := [key for key, value in fields.items() if not isinstance(value, str)]:
        raise SourceError(f"{at}: {', '.join(wrong)} must be text. Put it in quotes")
    return fields


def _entry(fields: dict[str, str], at: str) -> Entry:
    checks: dict[str, Callable[[str], str]] = {"id": mac12, "cloud_id": _inventory_cloud_id}
    values = {}
    for key, text in fields.items():
        try:
            values[key] = checks.get(key, checked_name)(text)
        except ValueError as error:
            raise SourceError(f"{at}: {key}: {error}") from error
    return Entry(**values)


def _inventory_cloud_id(text: str) -> str:
    key = cloud_key(text)
    if len(key) != CLOUD_ID_DIGITS:
        raise ValueError(f"{text!r} has {len(key)} hex digits, a cloud id has {CLOUD_ID_DIGITS}")
    return key
