"""What a gateway that has gone mad may publish: broken JSON, wrong types, strange topics."""

import json
import random
from collections.abc import Sequence

BROKEN = (
    b"",
    b"null",
    b"[]",
    b'"online"',
    b"21.5",
    b'{"id":"',
    b"{'id':'A4:C1:38:00:00:01'}",
    b"\xff\xfe\x00{",
    b"[" * 500,
    b"x" * 10_000,
)


def malformed(rng: random.Random, macs: Sequence[str]) -> tuple[str, bytes]:
    """
    Return the last topic level (a MAC or something like one) and a payload that holds no reading.

    `macs` are the devices to slander, 12 hex digits each.
    """
    mac = rng.choice(macs) if macs else "A4C138000001"
    if rng.random() < 0.5:  # noqa: PLR2004  half of each kind
        return mac, rng.choice(BROKEN)
    address = ":".join(mac[n : n + 2] for n in range(0, 12, 2))
    fields: dict[str, object] = {"id": address, "rssi": -70, "manufacturerdata": "88ec"}
    wrong: tuple[tuple[str, object], ...] = (
        ("id", 17),
        ("id", None),
        ("id", "A4:C1:38"),
        ("rssi", "loud"),
        ("rssi", 1e400),
        ("name", ["GVH5075_2762"]),
        ("manufacturerdata", 8236),
        ("manufacturerdata", {"88ec": "00"}),
        ("manufacturerdata", "not hex"),
        ("tempc", "21,5"),
        ("tempc", 1e9),
        ("hum", True),
        ("batt", -1),
    )
    key, value = rng.choice(wrong)
    fields[key] = value
    topic = rng.choice((mac, mac, mac, mac.lower(), mac[:6], "undefined", f"{mac}/extra"))
    return topic, json.dumps(fields).encode()
