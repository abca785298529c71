"""
BTHome v1 and v2 (Shelly BLU, ATC firmware, own builds), read by bthome-ble (MIT).

Plain adverts only: no keys are kept here.

https://bthome.io/format/
"""

from types import SimpleNamespace
from typing import Any, Final

from bthome_ble import BTHomeBluetoothDeviceData

from decoder.advert import Raw, RejectedError
from decoder.libraries import Found

V1, V1_SEALED, V2 = 0x181C, 0x181E, 0xFCD2
# Names on the air that are the model.
SHELLY = frozenset(
    {"SBBT-002C", "SBBT-102C", "SBBT-004CEU", "SBBT-004CUS", "SBDW-002C", "SBMO-003Z", "SBHT-003C"}
)

KEYS: Final[dict[str, str]] = {
    "temperature": "temperature",
    "humidity": "humidity",
    "battery": "battery",
    "illuminance": "illuminance",
    "pressure": "pressure",
    "power": "power",
    "energy": "energy",
    "voltage": "voltage",
    "carbon_dioxide": "co2",
    "pm25": "pm25",
    "motion": "motion",
    "occupancy": "occupancy",
    "presence": "presence",
    "vibration": "vibration",
    "opening": "contact",
    "door": "contact",
    "window": "contact",
    "garage_door": "contact",
}
PRESSES: Final[dict[str, int]] = {
    "press": 1,
    "double_press": 2,
    "triple_press": 3,
    "long_press": 4,
    "long_double_press": 5,
    "long_triple_press": 6,
}


class _Recorder(BTHomeBluetoothDeviceData):
    """bthome-ble that only notes what it read; see the same in `govee`."""

    def __init__(self) -> None:
        """Start empty; made afresh for each advert."""
        super().__init__()
        self.found: dict[str, Any] = {}
        self.fired: dict[str, str] = {}

    def update_sensor(
        self,
        key: str,
        native_unit_of_measurement: object,
        native_value: object,
        *_args: object,
        **_kwargs: object,
    ) -> None:
        """Note a measurement; the unit is fixed for each key."""
        del native_unit_of_measurement
        self.found[key] = native_value

    def update_binary_sensor(self, key: str, native_value: object, *_args: object, **_kwargs: object) -> None:
        """Note a state."""
        self.found[key] = native_value

    def fire_event(self, key: str, event_type: str, *_args: object, **_kwargs: object) -> None:
        """Note an event."""
        self.fired[key] = event_type


def decode(raw: Raw, model: str | None) -> Found | None:
    """
    See the package; 0xFCD2 is assigned to BTHome, but v1 borrows UUIDs, so the map must vouch for those.

    Raises RejectedError: encrypted, no_values.
    """
    if raw.uuid != V2 and (model is None or raw.uuid not in (V1, V1_SEALED)):
        return None
    if raw.uuid == V1_SEALED or (raw.uuid == V2 and raw.service[:1] and raw.service[0] & 1):
        raise RejectedError("encrypted")
    if len(raw.service) < 2:  # noqa: PLR2004  device information and one object
        raise RejectedError("truncated")
    recorder = _Recorder()
    recorder._start_update(  # noqa: SLF001  the hook its base class declares for subclasses
        SimpleNamespace(
            service_data={f"0000{raw.uuid:04x}-0000-1000-8000-00805f9b34fb": raw.service},
            manufacturer_data={},
            name="",
            address="00:00:00:00:00:00",
            time=0.0,
        )  # type: ignore[arg-type]
    )
    values = {name: value for key, value in recorder.found.items() if (name := _name(key))}
    events = _events(recorder.fired)
    packet = recorder.found.get("packet_id")
    event_id = raw.service.hex() if packet is None else f"{packet}"
    named = raw.name if raw.name in SHELLY else None
    return Found(named or model or "BTHome", values, events, event_id)


def _name(key: str) -> str:
    """`temperature_2` (the second of its kind in this advert) -> the same; empty for what is no reading."""
    stem, _, number = key.rpartition("_")
    if number.isdigit() and stem in KEYS:
        return f"{KEYS[stem]}_{number}"
    return KEYS.get(key, "")


def _events(fired: dict[str, str]) -> dict[str, float]:
    events: dict[str, float] = {}
    for key, kind in fired.items():
        stem, _, number = key.partition("_")
        if stem == "button" and kind in PRESSES:
            events[f"button_{number}" if number else "button"] = PRESSES[kind]
    return events
