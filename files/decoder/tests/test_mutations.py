"""Damaged adverts: never a crash, never a value outside its gate."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decoder import gates
from decoder.pipeline import Pipeline

ROWS = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "adverts.jsonl").read_text().splitlines()
]
MESSAGES: list[dict[str, Any]] = [row["message"] for row in ROWS]
MODELS = {row["message"]["id"].replace(":", ""): row["model"] for row in ROWS if row["model"]}
HEX = ("manufacturerdata", "servicedata")
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    10**400,
    "",
    "x" * 700,
    "\ud800",
    [],
    {},
    [[[]]],
    {"a": {}},
    "0x",
    "FCD2",
    228,
]
DECODED = ("tempc", "tempf", "hum", "batt", "open", "motion", "lux", "volt", "tempc1", "model_id", "pres")

Mutation = Callable[[random.Random, dict[str, Any]], None]


def flip(rng: random.Random, message: dict[str, Any]) -> None:
    for key in HEX:
        text = message.get(key)
        if isinstance(text, str) and text and len(text) % 2 == 0 and len(text) < 100:
            try:
                data = bytearray.fromhex(text)
            except ValueError:
                continue
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            message[key] = data.hex()


def cut(rng: random.Random, message: dict[str, Any]) -> None:
    for key in HEX:
        if isinstance(message.get(key), str):
            message[key] = message[key][: rng.randint(0, len(message[key]))]


def splice(rng: random.Random, message: dict[str, Any]) -> None:
    other = rng.choice(MESSAGES)
    for key in HEX:
        a, b = message.get(key), other.get(key)
        if isinstance(a, str) and isinstance(b, str):
            message[key] = a[: 2 * rng.randint(0, len(a) // 2)] + b[2 * rng.randint(0, len(b) // 2) :]


def borrow(rng: random.Random, message: dict[str, Any]) -> None:
    other = rng.choice(MESSAGES)
    key = rng.choice(("name", "manufacturerdata", "servicedata", "servicedatauuid"))
    if key in other:
        message[key] = other[key]
    else:
        message.pop(key, None)


def swap(rng: random.Random, message: dict[str, Any]) -> None:
    message[rng.choice([*message, *DECODED])] = rng.choice(
        [*ODD, float("nan"), float("inf"), rng.uniform(-500, 500)]
    )


def random_bytes(rng: random.Random, message: dict[str, Any]) -> None:
    company = rng.choice(("88ec", "0100", "88ef", "0188", "0388", "4388", "4c00", "ffff"))
    message["manufacturerdata"] = company + rng.randbytes(rng.choice((5, 6, 7, 8, 9, 14, 17, 20, 24))).hex()


def service(rng: random.Random, message: dict[str, Any]) -> None:
    message["servicedatauuid"] = rng.choice(("0xfcd2", "fcd2", "0x181c", "0x181e"))
    message["servicedata"] = rng.choice(("40", "44", "41", "23")) + rng.randbytes(rng.randint(0, 20)).hex()


def decoded_only(rng: random.Random, message: dict[str, Any]) -> None:
    for key in (*HEX, "servicedatauuid"):
        message.pop(key, None)
    message["model_id"] = "H5075"
    for key in DECODED[:-2]:
        message[key] = rng.choice([*ODD, rng.uniform(-300, 400), rng.randint(-300, 400), True])


MUTATIONS: list[Mutation] = [flip, cut, splice, borrow, swap, random_bytes, service, decoded_only]


def damaged(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    message = dict(rng.choice(MESSAGES))
    for mutation in rng.choices(MUTATIONS, k=rng.randint(1, 3)):
        mutation(rng, message)
    payload = json.dumps(message).encode(errors="replace")
    if rng.random() < 0.1:
        raw = bytearray(payload)
        raw[rng.randrange(len(raw))] = rng.randrange(256)
        payload = bytes(raw[: rng.randint(1, len(raw))])
    return message, payload


def outside(reading: dict[str, Any]) -> list[str]:
    bad = []
    for key, value in reading.items():
        if key in ("time", "model"):
            continue
        if (
            type(value) not in (int, float)
            or not math.isfinite(value)
            or gates.refusal(key, value, reading["model"])
        ):
            bad.append(f"{key}={value}")
    return bad


@pytest.mark.parametrize("wanted", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_damaged_adverts_give_no_value_outside_the_gates(wanted: int) -> None:
    rng = random.Random(20261124)  # noqa: S311  the same damage in every run
    pipeline = Pipeline("site", MODELS, lambda *_: None)
    for _ in range(wanted):
        message, payload = damaged(rng)
        mac = rng.choice(MESSAGES)["id"] if rng.random() < 0.02 else message.get("id")
        topic = (
            f"site/gw/BTtoMQTT/{str(mac).replace(':', '')}"
            if rng.random() < 0.9
            else "site/gw/BTtoMQTT/undecoded"
        )
        out = pipeline.handle(topic.encode(errors="replace"), payload)
        if out is not None:
            reading = json.loads(out[1])
            assert outside(reading) == [], (message, reading)
    counts = pipeline.counts
    assert counts["rejected_library"] < wanted // 100, "the guard round the libraries is for surprises only"
    rejected = sum(n for key, n in counts.items() if key.startswith("rejected_"))
    assert pipeline.adverts == wanted == pipeline.decoded + pipeline.unknown + rejected
    assert pipeline.published > wanted // 20, "most of this test must reach the decoder"
