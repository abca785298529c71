"""
Values that a gateway decoded itself (Theengs keys). Second best, used only where it sent no raw field.

Theengs ignores error bits and is wrong below zero for some models; the gates catch what they can. Keys: https://decoder.theengs.io/participate/adding-decoders.html#property-names
"""

from typing import Any, Final

from decoder.libraries import Found

KEYS: Final[dict[str, str]] = {
    "tempc": "temperature",
    "hum": "humidity",
    "batt": "battery",
    "lux": "illuminance",
    "pres": "pressure",
    "volt": "voltage",
    "power": "power",
    "energy": "energy",
    "co2": "co2",
    "pm25": "pm25",
    "open": "contact",
    "motion": "motion",
    "presence": "presence",
    **{f"tempc{n}": f"temperature_{n}" for n in range(1, 7)},
}
FAHRENHEIT: Final[dict[str, str]] = {"tempf": "tempc", **{f"tempf{n}": f"tempc{n}" for n in range(1, 7)}}


def found_in(message: dict[str, Any], model: str) -> Found:
    """Return the readings in a decoded message; a value of a wrong type is left out as if it had not come."""
    values: dict[str, float] = {}
    for key, value in message.items():
        name = KEYS.get(key)
        if name is not None and isinstance(value, (int, float)):
            values[name] = round(value, 2) if isinstance(value, float) else int(value)
        elif key in FAHRENHEIT and FAHRENHEIT[key] not in message and type(value) in (int, float):
            values[KEYS[FAHRENHEIT[key]]] = round((float(value) - 32) / 1.8, 2)
    return Found(model, values, {})
