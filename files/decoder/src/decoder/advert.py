"""The advert as it stands in a gateway's message: raw fields and their shape, no meaning yet."""

import binascii
from typing import NamedTuple

# Two adverts' worth (31 bytes each, as hex) with room: nothing on the air is longer, noise is.
MAX_HEX = 600
APPLE = 0x004C


class RejectedError(ValueError):
    """An advert that yields nothing; the message is the counted reason, one word in snake case."""


class Raw(NamedTuple):
    """
    The raw bytes of one advert.

    `company` and `data`: the manufacturer field, company id and what follows it (-1 and empty: none came).
    `uuid` and `service`: the service-data field, 16-bit UUID and its bytes (-1 and empty: none came).
    `name`: as heard, empty if not.
    """

    company: int
    data: bytes
    uuid: int
    service: bytes
    name: str


def _unhex(text: str) -> bytes:
    if len(text) > MAX_HEX:
        raise RejectedError("too_long")
    try:
        return binascii.unhexlify(text)  # stricter than bytes.fromhex: no blanks
    except ValueError:
        raise RejectedError("bad_hex") from None


def _uuid16(text: str) -> int:
    """`0xfcd2` (OpenMQTTGateway) or `fcd2` (Theengs) or the 128-bit form of either; -1 for any other UUID."""
    short = text.lower().removeprefix("0x")
    if len(short) == 36 and short.startswith("0000") and short.endswith("-0000-1000-8000-00805f9b34fb"):  # noqa: PLR2004  a UUID's length
        short = short[4:8]
    try:
        return int.from_bytes(binascii.unhexlify(short.zfill(4)), "big") if len(short) <= 4 else -1  # noqa: PLR2004  16 bit
    except ValueError:
        return -1


def raw_from_fields(manufacturer: str | None, service: str | None, uuid: str | None, name: str) -> Raw:
    """
    Hex fields of a gateway's message -> bytes.

    `manufacturer` has the company id in front, little-endian, as both gateways write it. An Apple field is
    dropped here: every Govee sensor sends an iBeacon beside its data, and no reading is in it.

    Raises RejectedError: bad_hex, too_long, truncated (not even a company id), apple (and nothing else).
    """
    company, data = -1, b""
    if manufacturer is not None:
        field = _unhex(manufacturer)
        if len(field) < 2:  # noqa: PLR2004  a company id
            raise RejectedError("truncated")
        company, data = int.from_bytes(field[:2], "little"), field[2:]
        if company == APPLE:
            company, data = -1, b""
    if service is None or uuid is None:
        if company < 0:
            raise RejectedError("apple" if manufacturer is not None else "no_values")
        return Raw(company, data, -1, b"", name)
    return Raw(company, data, _uuid16(uuid), _unhex(service), name)
