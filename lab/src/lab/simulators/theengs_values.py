"""
What the Theengs decoder, which both kinds of gateway carry, makes of an advert.

Mimics theengsdecoder 2.5.0 as seen from outside: which models it knows, that it needs their name, the keys it
adds. Values come from the truth that the fleet sends along, except for one known fault: H5072 and H5075 below
zero read a little too low, because humidity leaks into the digits (-24.0 C at 11.9 % reads -24.0119).
"""

import re

from lab.simulators.advert import Advert

IBEACON = re.compile(r"4c000215[0-9a-f]{42}")

# H5051, H5052, H5071, H5103 and H5110 are missing on purpose: the decoder does not know them.
KNOWN = frozenset(
    (
        "H5072",
        "H5074",
        "H5075",
        "H5100",
        "H5101",
        "H5102",
        "H5104",
        "H5105",
        "H5174",
        "H5177",
        "H5179",
        "GV5179",
    )
)
LEAKING = frozenset(("H5072", "H5075"))


def _model(name: str | None) -> str | None:
    """Return the model that a local name tells, e.g. `GVH5075_2762` -> `H5075`."""
    if not name:
        return None
    for model in KNOWN:
        if name.startswith((f"Govee_{model}_", f"GV{model}_", f"{model}_")):
            return model
    return None


def random_address(advert: Advert) -> bool:
    """Tell whether the decoder calls the device one that changes its address: both gateways then drop it."""
    data = (advert.manufacturerdata or "").lower()
    # Apple's continuity messages (not its iBeacons) and Microsoft's device beacon
    return (data.startswith("4c00") and not data.startswith("4c000215")) or data.startswith("060001")


def _ibeacon(data: str) -> dict[str, object]:
    return {
        "brand": "GENERIC",
        "model": "iBeacon",
        "model_id": "IBEACON",
        "type": "BCON",
        "mfid": data[0:4],
        "uuid": data[8:40],
        "major": int(data[40:44], 16),
        "minor": int(data[44:48], 16),
        "txpower": int.from_bytes(bytes.fromhex(data[48:50]), signed=True),
    }


def _thermometer(model: str, advert: Advert) -> dict[str, object]:
    truth = advert.truth
    if truth is None:
        return {}
    celsius = truth.temperature
    if model in LEAKING and celsius < 0:
        celsius = round(celsius - truth.humidity / 1000, 4)
    return {
        "brand": "Govee",
        "model": "Thermo-Hygrometer",
        "model_id": "H5072/75" if model in LEAKING else model.replace("GV", "H"),
        "type": "THB",
        "acts": True,
        "tempc": celsius,
        "tempf": round(celsius * 9 / 5 + 32, 4),
        "hum": truth.humidity,
        "batt": truth.battery,
    }


def decoded(advert: Advert) -> dict[str, object]:
    """Return the keys that the decoder adds to a message; none for a device that it does not know."""
    data = (advert.manufacturerdata or "").lower()
    if IBEACON.fullmatch(data):
        return _ibeacon(data)
    model = _model(advert.name)
    return {} if model is None else _thermometer(model, advert)
