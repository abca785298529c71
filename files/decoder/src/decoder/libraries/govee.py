"""
Govee sensors, read by govee-ble (Apache-2.0, parser part MIT).

What is added here, each because a real or possible advert gives a wrong number without it:

- which company id and length belong to a model (LAYOUTS): govee-ble goes by length alone in places, so an
  H5074 one byte short reads as an H5075, a plug as a presence sensor, "GV51085140" (an H5108 whose address
  ends in 51:40) as an H5140;
- units and probes that it guesses at when their number is unknown;
- the humidity of models that have none; the newer H5055 layout.

Layouts are facts of govee-ble 1.5.2 and of captured adverts (tests/data/adverts.jsonl).
"""

import re
from types import SimpleNamespace
from typing import Final, NamedTuple

from govee_ble import GoveeBluetoothDeviceData
from sensor_state_data import BinarySensorDeviceClass
from sensor_state_data.description import BaseSensorDescription

from decoder.advert import Raw, RejectedError
from decoder.libraries import Found


class Layout(NamedTuple):
    """Where a model's values are: company id (None: octets of its own address) and length after the id."""

    company: int | None
    length: int
    named_by_company: bool = False  # this id and length prove the model without a name


OWN, ANY_MAKER, NEW = 0xEC88, 0x0001, 0xEF88
SMALL = Layout(ANY_MAKER, 6)
LONG = Layout(ANY_MAKER, 8)
LAYOUTS: Final[dict[str, Layout]] = {
    "H5072/H5075": Layout(OWN, 6, named_by_company=True),
    "H5072": Layout(OWN, 6),
    "H5075": Layout(OWN, 6),
    "H5129": Layout(OWN, 6),
    "H5074": Layout(OWN, 7, named_by_company=True),
    "H5051": Layout(OWN, 9, named_by_company=True),
    "H5052": Layout(OWN, 9),
    "H5071": Layout(OWN, 9),
    "H5179": Layout(0x8801, 9, named_by_company=True),
    **dict.fromkeys(("H5100", "H5101", "H5102", "H5103", "H5104", "H5105", "H5106", "H5110"), SMALL),
    **dict.fromkeys(("H5174", "H5177", "GV5179"), SMALL),
    **dict.fromkeys(("H5108", "H5111", "H5112", "H5140", "H5171"), LONG),
    "H5178": Layout(ANY_MAKER, 9),
    "H5181": Layout(None, 14),
    "H5183": Layout(None, 14),
    "H5182": Layout(None, 17),
    "H5184": Layout(None, 17),
    **dict.fromkeys(("H5055", "H5185", "H5191", "H5198"), Layout(None, 20)),
}
# Encrypted with a checksum and a model byte inside: these name themselves whatever the name or the map says.
SEALED = frozenset({"H5121", "H5122", "H5123", "H5124", "H5125", "H5126", "H5130"})
SEALED_LENGTH = 24
PRESENCE = "H5127"
NO_HUMIDITY = frozenset(
    {"H5108", "H5111"}
)  # their last digits are always 600, which govee-ble reads as 60.0 %

KEYS: Final[dict[str, str]] = {
    "temperature": "temperature",
    "humidity": "humidity",
    "battery": "battery",
    "carbon_dioxide": "co2",
    "pm25": "pm25",
    "window": "contact",
    "occupancy": "occupancy",
    "presence": "presence",
    "motion": "motion",
    "vibration": "vibration",
    "humidity_probe_1": "humidity_1",
    **{f"temperature_probe_{n}": f"temperature_{n}" for n in range(1, 7)},
}
UUID_H5055 = "00005550-0000-1000-8000-00805f9b34fb"
GLUED = 25  # bytes of the iBeacon that some adverts have glued on

_HEARD = re.compile(r"(Govee_H|GVH|GV|[BH](?=5178))([0-9]{4})")
_MAPPED = re.compile(r"(?:Govee[_ ]?)?(GVH|GV|H)?([0-9]{4})", re.IGNORECASE)


class _Recorder(GoveeBluetoothDeviceData):
    """
    govee-ble with its bookkeeping (descriptions, titles, units) left out: it only notes what it read.

    Several times as fast as reading its update object, and nothing is kept from one advert to the next.
    """

    def __init__(self) -> None:
        """Start empty; made afresh for each advert."""
        super().__init__()
        self.found: dict[tuple[str, str | None], object] = {}
        self.fired: list[str] = []
        self.type = ""

    def update_predefined_sensor(
        self,
        base_description: BaseSensorDescription,
        native_value: object,
        key: str | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        """Note a measurement under its key; `device_id` tells the two units of an H5178 apart."""
        del name
        self.found[key or str(base_description.device_class), device_id] = native_value

    def update_predefined_binary_sensor(
        self,
        device_class: BinarySensorDeviceClass,
        native_value: object,
        key: str | None = None,
        name: str | None = None,
        device_id: str | None = None,
    ) -> None:
        """Note a state."""
        del name
        self.found[key or device_class.value, device_id] = native_value

    def fire_event(self, key: str, *_args: object, **_kwargs: object) -> None:
        """Note an event."""
        self.fired.append(key)

    def set_device_type(self, device_type: str, device_id: str | None = None) -> None:
        """Note the model."""
        del device_id
        self.type = device_type

    def set_device_name(self, name: str, device_id: str | None = None) -> None:
        """Leave the name out."""

    def set_device_manufacturer(self, manufacturer: str, device_id: str | None = None) -> None:
        """Leave the maker out."""

    def set_title(self, title: str) -> None:
        """Leave the title out."""


def heard_model(name: str) -> str | None:
    """
    Find the model in a name on the air: `GVH5075_2762`, `Govee_H5074_5FF4`, `GV51085242`, `B51782BC8`.

    None for a name that names no Govee model. A model that is no sensor (a plug, a light) comes back too.
    """
    match = _HEARD.match(name)
    if match is None:
        return None
    maker, number = match.groups()
    return "GV5179" if (maker, number) == ("GV", "5179") else f"H{number}"


def mapped_model(model: str) -> str | None:
    """Do the same for what a person wrote into the map: `H5075`, `GVH5075`, `Govee H5075`, `5075`."""
    if model in LAYOUTS:
        return model
    match = _MAPPED.fullmatch(model.strip())
    if match is None:
        return None
    maker, number = match.groups()
    return "GV5179" if ((maker or "").upper(), number) == ("GV", "5179") else f"H{number}"


def decode(raw: Raw, model: str | None) -> Found | None:
    """
    See the package. What the advert says of itself (name, sealed model byte) goes before the map.

    Raises RejectedError: layout, checksum, error_flag, no_values.
    """
    if raw.company < 0:
        return None
    heard = heard_model(raw.name)
    known = heard or (mapped_model(model) if model else None)
    data = raw.data
    if data[-GLUED:].startswith(b"\x4c\x00\x02\x15INTELLI_ROCKS"):
        data = data[:-GLUED]
    if raw.company in (NEW, OWN) and len(data) == SEALED_LENGTH:
        return _sealed(data)
    if known is None:
        known = next(
            (m for m, at in LAYOUTS.items() if at.named_by_company and (raw.company, len(data)) == at[:2]),
            None,
        )
        if known is None:
            return None
    if known == PRESENCE:
        return _presence(raw.company, data)
    layout = LAYOUTS.get(known)
    if layout is None:
        # A Govee product that is no sensor of ours, or a sealed one that sent something else.
        if heard is None and known not in SEALED:
            return None
        raise RejectedError("layout")
    if len(data) != layout.length or layout.company not in (None, raw.company):
        raise RejectedError("layout")
    return _plain(known, layout, data)


def _read(name: str, company: int, data: bytes, uuids: list[str] | None = None) -> _Recorder:
    recorder = _Recorder()
    recorder._start_update(  # noqa: SLF001  the hook its base class declares for subclasses; update() wraps it in bookkeeping
        SimpleNamespace(
            manufacturer_data={company: data},
            service_uuids=uuids or [],
            name=name,
            address="00:00:00:00:00:00",
        )  # type: ignore[arg-type]
    )
    return recorder


def _values(recorder: _Recorder) -> dict[str, float]:
    values: dict[str, float] = {}
    for (key, unit), value in recorder.found.items():
        name = KEYS.get(key)
        if name is None:
            continue  # alarm limits of probes
        if not isinstance(value, (int, float)):
            raise RejectedError("error_flag")  # the text "error": error bit set, or out of -40..100 C
        # Two sensors behind one address (H5178): the base unit under the plain name, the remote one numbered.
        values[f"{name}_1" if unit == "remote" else name] = round(value + 0, 2)
    return values


def _plain(model: str, layout: Layout, data: bytes) -> Found:
    if model == "H5178" and data[2] > 1:
        raise RejectedError("layout")  # govee-ble would book a third unit as the first
    if model == "H5055" and data[2:5] == b"\x00\x01\x01":
        return Found(model, _new_h5055(data), {})
    # A plain name, and for probes an id no model owns: their real id is two octets of the address and could
    # be another model's.
    name = f"{model}_0000" if model.startswith("GV") else f"GV{model}_0000"
    company = 0xFFFF if layout.company is None else layout.company
    values = _values(
        _read("" if "/" in model else name, company, data, [UUID_H5055] if model == "H5055" else None)
    )
    if model in NO_HUMIDITY:
        values.pop("humidity", None)
    if model == "H5191" and data[14:16] == b"\xff\xff":
        values.pop("temperature", None)  # not measured, reads -0.01
    return Found(model, values, {})


def _new_h5055(data: bytes) -> dict[str, float]:
    """
    Newer H5055 hardware: battery in byte 5, group in 6, hundredths of a degree, big-endian, at 8 and 14.

    Layout from one captured advert of the first group; other groups are not known, so not read.
    """
    if data[6] & 0xC0:
        raise RejectedError("layout")
    values: dict[str, float] = {"battery": data[5] & 0x7F}
    for bit, at in ((1, 8), (2, 14)):
        if data[6] & bit:
            values[f"temperature_{bit}"] = int.from_bytes(data[at : at + 2], "big", signed=True) / 100
    return values


def _presence(company: int, data: bytes) -> Found:
    # Lights and plugs share these ids (really a flags byte) and even the prefix: name or map must say H5127.
    if company not in (0x8803, 0x8843) or not data.startswith((b"\xec\x00\x01\x01", b"\xec\x00\x02\x01")):
        raise RejectedError("layout")
    if len(data) != 6:  # noqa: PLR2004  as govee-ble wants it
        raise RejectedError("layout")
    return Found(PRESENCE, _values(_read("GVH5127_0000", company, data)), {})


def _sealed(data: bytes) -> Found:
    recorder = _read("", NEW, data)  # no name: the model byte inside decides
    values = _values(recorder)
    if not recorder.type:
        raise RejectedError("checksum")
    events: dict[str, float] = {}
    for key in recorder.fired:
        kind, _, number = key.partition("_")
        events[kind] = int(number) if kind == "button" else 1
    # Bytes 2..5 are a clock that stands still while one event is repeated (and the key of the cipher).
    return Found(recorder.type, values, events, data[2:6].hex())
