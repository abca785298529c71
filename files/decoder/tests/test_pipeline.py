import json
import random
from typing import Any

import pytest

from decoder import pipeline as module
from decoder.events import HOLD_S, MOST, Events
from decoder.gates import LIMITS, refusal
from decoder.pipeline import Pipeline
from decoder.stamps import Clock, Stamp

H5075 = {
    "id": "A4:C1:38:00:00:01",
    "name": "GVH5075_0001",
    "rssi": -60,
    "manufacturerdata": "88ec00034db26400",
}
H5121 = {
    "id": "C1:37:37:7E:0F:45",
    "rssi": -60,
    "manufacturerdata": "88ef59940000f0b91937ae50b6372c866ac2f3d061e717c02cef",
}
TOPIC = b"site/gw/BTtoMQTT/A4C138000001"


class Clocks:
    """Both clocks, to be set by a test."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000_000_000
        self.mono = 5_000_000_000_000

    def advance(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.mono += int(seconds * 1e9)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr("time.time_ns", lambda: clocks.wall)
    monkeypatch.setattr("time.monotonic_ns", lambda: clocks.mono)
    monkeypatch.setattr("time.monotonic", lambda: clocks.mono / 1e9)
    return clocks


def new(models: dict[str, str] | None = None) -> Pipeline:
    return Pipeline("site", models or {}, lambda *_: None)


def send(
    pipeline: Pipeline, message: object, gateway: str = "gw", level: str | None = None
) -> dict[str, Any]:
    mac = level or (message["id"].replace(":", "") if isinstance(message, dict) else "A4C138000001")
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    out = pipeline.handle(f"site/{gateway}/BTtoMQTT/{mac}".encode(), payload)
    return {} if out is None else {"topic": out[0].decode(), **json.loads(out[1])}


def test_reading_is_the_contract() -> None:
    reading = send(new(), H5075)
    assert reading.pop("time").endswith("Z")
    assert reading == {
        "topic": "site/decoder/gw/A4C138000001",
        "model": "H5075",
        "temperature": 21.6,
        "humidity": 49.8,
        "battery": 100,
        "rssi": -60,
    }


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe{}", "bad_json"),
        (b"[" * 8000, "bad_json"),
        (b'{"a":' * 1500, "bad_json"),
        (b'{"id":"A4:C1:38:00:00:01","rssi":NaN}', "bad_json"),
        (b'{"rssi":-Infinity}', "bad_json"),
        (b'{"rssi":' + b"9" * 5000 + b"}", "bad_json"),
        (b" " * 1_000_000, "too_long"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b'{"id":7}', "wrong_type"),
        (b'{"id":"A4:C1:38:00:00:02"}', "id_mismatch"),
        (b'{"id":"nonsense"}', "id_mismatch"),
        (b'{"manufacturerdata":["88ec"]}', "wrong_type"),
        (b'{"manufacturerdata":"88ec00034db26400","name":{}}', "wrong_type"),
        (b'{"servicedata":"40","servicedatauuid":5}', "wrong_type"),
        (b'{"manufacturerdata":"' + b"88" * 2000 + b'"}', "too_long"),
        (b'{"manufacturerdata":"88ec 00034db26400"}', "bad_hex"),
        (b'{"rssi":-60}', "no_values"),
        (b'{"state":"offline"}', "no_values"),
        (b'{"tempc":1e400,"hum":5}', "temperature"),
    ],
)
def test_bad_messages_are_counted_once_and_by_reason(payload: bytes, reason: str) -> None:
    told: list[tuple[str, bytes]] = []
    pipeline = Pipeline("site", {"A4C138000001": "H5075"}, lambda *why: told.append(why))
    if reason == "temperature":
        assert pipeline.handle(TOPIC, payload) is not None  # the humidity is good
        assert pipeline.counts == {"dropped_temperature": 1}
        return
    assert pipeline.handle(TOPIC, payload) is None
    assert pipeline.counts == {f"rejected_{reason}": 1}
    assert told == [(reason, TOPIC)]
    assert pipeline.gateways["gw"].rejected == 1


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "site",
        "site/gw/BTtoMQTT",
        "other/gw/BTtoMQTT/A4C138000001",
        "site/gw/BTtoMQTT/A4C13800000",
        "site/gw/BTtoMQTT/A4C13800000G",
        "site/g w/BTtoMQTT/A4C138000001",
        "site/gw/x/A4C138000001",
        "site/gw/BTtoMQTT/A4C138000001/x",
        "site/" + "g" * 65 + "/BTtoMQTT/A4C138000001",
        'site/"/BTtoMQTT/A4C138000001',
    ],
)
def test_topics_of_no_gateway(topic: str) -> None:
    pipeline = new()
    assert pipeline.handle(topic.encode(), json.dumps(H5075).encode()) is None
    assert pipeline.counts == {"rejected_topic": 1}
    assert pipeline.gateways == {}


def test_undecoded_topic_takes_the_id_of_the_message() -> None:
    pipeline = new()
    assert send(pipeline, H5075, level="undecoded")["topic"] == "site/decoder/gw/A4C138000001"
    assert (
        send(pipeline, {**H5075, "id": "a4c138000001"}, level="undecoded")["topic"]
        == "site/decoder/gw/A4C138000001"
    )
    assert send(pipeline, {"rssi": -60}, level="undecoded") == {}
    assert send(pipeline, {**H5075, "id": "A4:C1"}, level="undecoded") == {}
    assert pipeline.counts == {"rejected_no_id": 2}


def test_retained_adverts_are_old() -> None:
    pipeline = new()
    assert pipeline.handle(TOPIC, json.dumps(H5075).encode(), retained=True) is None
    assert pipeline.counts == {"rejected_retained": 1}


DECODED = {
    "id": "A4:C1:38:00:00:01",
    "rssi": -50,
    "model_id": "H5072/75",
    "tempc": 21.25,
    "tempf": 70.25,
    "hum": 40,
    "batt": 90,
}


def test_gateways_own_values_where_no_raw_field_came() -> None:
    reading = send(new(), DECODED)
    assert (reading["model"], reading["temperature"], reading["humidity"], reading["battery"]) == (
        "H5072/75",
        21.25,
        40,
        90,
    )
    assert send(new({"A4C138000001": "H5075"}), DECODED)["model"] == "H5075"
    assert send(new(), {**DECODED, "model_id": "x" * 50}) == {}
    assert send(new(), {key: value for key, value in DECODED.items() if key != "model_id"}) == {}


def test_gateways_own_values_never_stand_in_for_raw_that_failed() -> None:
    assert send(new(), {**DECODED, "manufacturerdata": "88ec00034db2e400", "name": "GVH5075_0001"}) == {}
    assert send(new({"A4C138000001": "H5075"}), {**DECODED, "manufacturerdata": ""}) == {}


def test_gateways_own_values_pass_the_gates() -> None:
    pipeline = new()
    assert send(pipeline, {**DECODED, "batt": 228}) == {}  # the error bit that Theengs does not look at
    reading = send(
        pipeline, {**DECODED, "tempc": 862.8727, "open": True, "motion": False, "lux": "7", "volt": True}
    )
    assert "temperature" not in reading
    assert (reading["contact"], reading["motion"]) == (1, 0)
    assert type(reading["contact"]) is int
    assert "illuminance" not in reading
    fahrenheit = {key: value for key, value in DECODED.items() if key != "tempc"}
    assert send(pipeline, fahrenheit)["temperature"] == 21.25
    assert send(pipeline, {**DECODED, "tempc1": 120, "model_id": "H5055"})["temperature_1"] == 120


@pytest.mark.parametrize("rssi", [True, -128, 1, "-60", 1.5, 10**30, None])
def test_odd_rssi_is_left_out(rssi: object) -> None:
    assert "rssi" not in send(new(), {**H5075, "rssi": rssi})


def test_names_are_read_whole() -> None:
    # An H5108 whose address ends in 51:40 is no H5140.
    reading = send(
        new(), {"id": "A4:C1:38:00:51:40", "name": "GV51085140", "manufacturerdata": "0100010103c730640000"}
    )
    assert (reading["model"], reading["temperature"]) == ("H5108", 24.7)
    assert "co2" not in reading
    # One byte short, an H5074 has the length of an H5075.
    assert send(new(), {**H5075, "name": "Govee_H5074_0001"}) == {}


def test_what_the_advert_says_goes_before_the_map() -> None:
    pipeline = new({"A4C138000001": "H5106"})
    assert send(pipeline, H5075)["model"] == "H5075"
    assert send(pipeline, {**H5075, "name": ""}) == {}  # H5106 has another company id
    assert pipeline.counts == {"rejected_layout": 1}


@pytest.mark.parametrize("text", ["H5100", "GVH5100", "Govee H5100", "5100", "h5100"])
def test_spellings_of_a_model_in_the_map(text: str) -> None:
    message = {"id": "A4:C1:38:00:00:01", "manufacturerdata": "0100010103465464"}
    assert send(new({"A4C138000001": text}), message)["temperature"] == 21.4


def test_strangers_stay_unknown() -> None:
    rng = random.Random(7)  # noqa: S311  the same strangers in every run
    pipeline = new()
    for _ in range(3000):
        company = rng.choice(["0100", "4c00", "0600", "7500", "ffff", "0388", "4388"])
        data = company + rng.randbytes(rng.choice([5, 6, 8, 9, 14, 17, 20, 24])).hex()
        mac = rng.randbytes(6).hex(":").upper()
        assert (
            send(pipeline, {"id": mac, "name": rng.choice(["", "Phone", "TV"]), "manufacturerdata": data})
            == {}
        )
    assert pipeline.unknown == 3000
    assert pipeline.counts == {}


def test_event_once_for_all_repeats_and_gateways(clocks: Clocks) -> None:
    pipeline = new()
    first = send(pipeline, H5121, "north")
    assert (first["motion"], first["battery"], first["model"]) == (1, 100, "H5121")
    for gateway in ("north", "south", "south"):
        again = send(pipeline, H5121, gateway)
        assert "motion" not in again
        assert again["battery"] == 100
        clocks.advance(HOLD_S - 1)  # as long as it goes on being repeated, it is the same event
    assert pipeline.repeats == 3
    clocks.advance(HOLD_S + 1)
    assert send(pipeline, H5121)["motion"] == 1


def test_event_of_bthome_is_told_by_its_packet_id() -> None:
    pipeline = new()
    press = {"id": "BC:02:6E:00:BB:CC", "name": "SBBT-002C", "servicedatauuid": "fcd2"}
    readings = [
        send(pipeline, {**press, "servicedata": f"4000{n:02x}01643a01"}) for n in (29, 29, 30, 30, 29)
    ]
    assert [r.get("button") for r in readings] == [1, None, 1, None, None]
    double = send(pipeline, {**press, "servicedata": "40001f3a02"})
    assert (double["button"], double["model"]) == (2, "SBBT-002C")
    assert (
        send(pipeline, {**press, "servicedata": "40001f3a02"}) == {}
    )  # nothing but the event, and that was sent
    assert pipeline.decoded == pipeline.published + 1


def test_events_memory_is_bounded() -> None:
    events = Events()
    for n in range(3 * MOST):
        assert events.is_new(f"{n}", "a", 0.0)
    assert len(events) == MOST
    assert events.is_new("new", "a", HOLD_S + 1)
    assert len(events) == 1


def test_paths_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PATHS", 50)
    monkeypatch.setattr(module, "MOST_GATEWAYS", 5)
    pipeline = new()
    for n in range(500):
        mac = f"{n:012X}"
        send(
            pipeline,
            {"id": mac, "manufacturerdata": "0100010103465464", "name": f"GVH5100_{n:04x}"},
            f"gw{n % 10}",
        )
    assert len(pipeline._paths) == 50
    assert len(pipeline.gateways) == 5
    assert pipeline.counts == {"rejected_gateways": 250}


def test_no_two_readings_of_a_device_and_gateway_share_a_millisecond(clocks: Clocks) -> None:
    pipeline = new()
    times = [send(pipeline, H5075)["time"] for _ in range(1500)]
    assert len(set(times)) == 1500
    assert times == sorted(times)
    assert (
        send(pipeline, H5075, level="a4c138000001")["time"] not in times
    )  # the same device in small letters
    assert send(pipeline, H5075, "other")["time"] == times[0]  # another gateway is another series
    clocks.advance(10)
    assert send(pipeline, H5075)["time"].startswith(times[0][:15])
    assert pipeline.clock.steps == 0


def test_clock_set_back_leaves_no_stamp_in_the_future(clocks: Clocks) -> None:
    pipeline = new()
    before = send(pipeline, H5075)["time"]
    clocks.wall -= 3600 * 10**9
    after = [send(pipeline, H5075)["time"] for _ in range(3)]
    assert max(after) < before
    assert len(set(after)) == 3
    assert pipeline.clock.steps == 1
    clocks.wall += 7200 * 10**9
    assert send(pipeline, H5075)["time"] > before
    assert pipeline.clock.steps == 2


def test_small_correction_of_the_clock_is_no_step(clocks: Clocks) -> None:
    clock, stamp = Clock(), Stamp()
    given = []
    for _ in range(20):
        clocks.wall -= 10_000_000
        given.append(stamp.next(clock.now(), clock.steps))
    assert clock.steps == 0
    assert len(set(given)) == 20


def test_text_of_a_stamp() -> None:
    assert Clock().text(1795559585123) == "2026-11-24T22:33:05.123Z"
    assert Clock().text(1795559585000) == "2026-11-24T22:33:05.000Z"


def test_gates_are_limits_and_refuse_nan() -> None:
    for name, (low, high) in LIMITS.items():
        assert refusal(name, low, "") == refusal(name, high, "") == ""
        assert refusal(name, low - 0.1, "") == refusal(name, high + 0.1, "") == name
        assert refusal(name, float("nan"), "") == name
        assert refusal(name, float("inf"), "") == name
    assert refusal("temperature_1", 250.0, "H5055") == ""
    assert refusal("temperature_1", 250.0, "H5112") == "temperature"
    assert refusal("temperature_1", -20.0, "H5112") == ""
    assert refusal("temperature_1", 0.0, "H5055") == "no_probe"
    assert refusal("rotation", 1.0, "") == "not_listed"
