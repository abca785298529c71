"""
What a reading may be: a value outside is dropped and counted, never clipped.

One table for every sensor library and for values that a gateway decoded.
"""

from functools import lru_cache

# quantity: (lowest, highest), both allowed. Units as in the reading.
LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (-40.0, 100.0),
    "humidity": (0.0, 100.0),
    "battery": (0.0, 100.0),
    "pressure": (300.0, 1100.0),
    "co2": (250.0, 10_000.0),  # below: 0 while the sensor warms up
    "pm25": (0.0, 1000.0),
    "illuminance": (0.0, 200_000.0),
    "voltage": (0.0, 500.0),  # a coin cell or a mains meter
    "power": (-100_000.0, 100_000.0),  # negative: feeding back
    "energy": (0.0, 1e9),
    "motion": (0.0, 1.0),
    "contact": (0.0, 1.0),
    "vibration": (0.0, 1.0),
    "occupancy": (0.0, 1.0),
    "presence": (0.0, 1.0),
    "button": (0.0, 255.0),
    "rssi": (-127.0, 0.0),
}
# Food probes go hotter than a room; 0.0 is what govee-ble gives for one that is not plugged in: no reading.
PROBE = (0.01, 300.0)
PROBE_MODELS = frozenset({"H5055", "H5181", "H5182", "H5183", "H5184", "H5185", "H5191", "H5198"})


@lru_cache(maxsize=512)
def limits(quantity: str, model: str) -> tuple[str, float, float]:
    """
    Find the row of a quantity -> counted word, lowest, highest; `temperature_2` is a second `temperature`.

    A quantity that no reading has gets limits that nothing passes.
    """
    stem, _, number = quantity.rpartition("_")
    name = stem if stem and number.isdigit() else quantity
    if name == "temperature" != quantity and model in PROBE_MODELS:
        return name, *PROBE
    return (name, *LIMITS[name]) if name in LIMITS else ("not_listed", 1.0, 0.0)


def refusal(quantity: str, value: float, model: str) -> str:
    """Say in one counted word why this value must not go out; empty when it may."""
    name, low, high = limits(quantity, model)
    if low <= value <= high:  # false for NaN
        return ""
    return "no_probe" if value == 0 and low == PROBE[0] else name
