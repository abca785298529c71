"""
Readings to advert bytes, for the Govee thermometers that the simulated fleet is made of.

The layouts are those that govee-ble 1.5.2 (Apache-2.0) reads; its parser decodes everything made here back to
the same values (see the tests). "24-bit" packs both values in one big-endian number: bit 23 is the sign of
the temperature, the rest is tenths of a degree times 1000 plus tenths of a percent.
"""

import struct
from collections.abc import Callable

from lab.simulators.advert import Truth

# The iBeacon that Govee sensors send beside their data (company id 0x004C), as captured: no reading in it.
IBEACON_DECOY = "4c000215494e54454c4c495f524f434b535f48575075f2ffc2"

LOWEST, HIGHEST = -40.0, 100.0  # degrees C; outside of it govee-ble calls a 24-bit value an error
DRIEST, WETTEST = 0.0, 99.9  # % relative humidity; 100.0 would carry over into the temperature


def _packed_24_bit(truth: Truth) -> bytes:
    number = round(abs(truth.temperature) * 10) * 1000 + round(truth.humidity * 10)
    if truth.temperature < 0:
        number |= 0x800000
    return number.to_bytes(3, "big")


def _little_endian(truth: Truth) -> bytes:
    return struct.pack("<hHB", round(truth.temperature * 100), round(truth.humidity * 100), truth.battery)


def _ec88_24_bit(truth: Truth) -> bytes:
    return b"\x88\xec\x00" + _packed_24_bit(truth) + bytes([truth.battery, 0])


def _ec88_h5074(truth: Truth) -> bytes:
    return b"\x88\xec\x00" + _little_endian(truth) + b"\x02"


def _ec88_h5051(truth: Truth) -> bytes:
    return b"\x88\xec\x00" + _little_endian(truth) + b"\xc2\x01\x01"


def _id_1_24_bit(truth: Truth) -> bytes:
    return b"\x01\x00\x01\x01" + _packed_24_bit(truth) + bytes([truth.battery])


def _id_8801(truth: Truth) -> bytes:
    return b"\x01\x88\xec\x00\x01\x01" + _little_endian(truth)


_HUNDREDTHS: dict[str, Callable[[Truth], bytes]] = {
    "H5051": _ec88_h5051,
    "H5052": _ec88_h5051,
    "H5071": _ec88_h5051,
    "H5074": _ec88_h5074,
    "H5179": _id_8801,
}
_ID_1 = ("H5100", "H5101", "H5102", "H5103", "H5104", "H5105", "H5110", "H5174", "H5177", "GV5179")
_TENTHS: dict[str, Callable[[Truth], bytes]] = {
    "H5072": _ec88_24_bit,
    "H5075": _ec88_24_bit,
    **dict.fromkeys(_ID_1, _id_1_24_bit),
}

MODELS = tuple(sorted(_HUNDREDTHS | _TENTHS))
WITH_DECOY = ("H5051", "H5074")  # models whose iBeacon arrives as an advert of its own


def rounded(model: str, temperature: float, humidity: float, battery: float) -> Truth:
    """Return the reading as an advert of `model` can carry it: clipped to the sensor's range and rounded."""
    digits = 2 if model in _HUNDREDTHS else 1
    return Truth(
        round(min(max(temperature, LOWEST), HIGHEST), digits) + 0.0,  # + 0.0 turns -0.0 into 0.0
        round(min(max(humidity, DRIEST), WETTEST), digits),
        round(min(max(battery, 0.0), 100.0)),
    )


def encode(model: str, truth: Truth) -> str:
    """
    Return the manufacturer data (hex, company id first) with which `model` advertises this reading.

    ValueError for a model that is not in MODELS or a reading that `rounded` would not have let through.
    """
    encoder = _HUNDREDTHS.get(model) or _TENTHS.get(model)
    if encoder is None:
        raise ValueError(f"no encoder for model {model}; known: {', '.join(MODELS)}")
    if rounded(model, truth.temperature, truth.humidity, truth.battery) != truth:
        raise ValueError(f"{truth} does not fit into an advert of {model}")
    return encoder(truth).hex()


def local_name(model: str, mac: str) -> str:
    """Return the name a sensor gives in its scan response, e.g. `GVH5075_2762`."""
    if model == "GV5179":
        return f"GV5179_{mac[-4:]}"
    prefix = "Govee_" if model in _HUNDREDTHS else "GV"
    return f"{prefix}{model}_{mac[-4:]}"
