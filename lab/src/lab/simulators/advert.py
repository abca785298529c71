"""One BLE advert as the simulated radio carries it: a UDP datagram with one JSON object, port 4545."""

import json
import re
from dataclasses import asdict, dataclass

RADIO_PORT = 4545
DATAGRAM_LIMIT = 2048  # bytes; a BLE advert in hex is far shorter

MAC = re.compile(r"[0-9A-F]{12}")


@dataclass(frozen=True, slots=True)
class Truth:
    """What the sensor measured, as its advert can carry it: degrees C, % relative humidity, % battery."""

    temperature: float
    humidity: float
    battery: int


@dataclass(frozen=True, slots=True)
class Advert:
    """
    One advert: `mac` 12 upper-case hex digits, `rssi` dBm, data in hex, company id first, little-endian.

    `truth` is None where there is no reading in the advert.
    """

    mac: str
    name: str | None
    rssi: int
    manufacturerdata: str | None
    servicedata: str | None = None
    servicedatauuid: str | None = None
    truth: Truth | None = None

    @property
    def address(self) -> str:
        """The MAC as gateways print it: `AA:BB:CC:DD:EE:FF`."""
        return ":".join(self.mac[n : n + 2] for n in range(0, 12, 2))

    def datagram(self) -> bytes:
        """Return the JSON object that goes over the simulated air."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def from_datagram(data: bytes) -> Advert:
    """Return the advert in a datagram; ValueError if it is not one."""
    try:
        fields = json.loads(data)
        truth = fields.pop("truth", None)
        advert = Advert(**fields, truth=None if truth is None else Truth(**truth))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no advert: {error}") from error
    if not isinstance(advert.mac, str) or not MAC.fullmatch(advert.mac):
        raise ValueError(f"no MAC: {advert.mac!r}")
    texts = (advert.name, advert.manufacturerdata, advert.servicedata, advert.servicedatauuid)
    if not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError(f"a text is wanted: {texts!r}")
    if not isinstance(advert.rssi, int):
        raise ValueError(f"no signal strength: {advert.rssi!r}")  # noqa: TRY004  one kind of error for the caller
    return advert
