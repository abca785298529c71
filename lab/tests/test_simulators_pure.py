"""What the fleet sends is what govee-ble reads; the two gateways' rules hold without any network."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from govee_ble.parser import GoveeBluetoothDeviceData
from home_assistant_bluetooth import BluetoothServiceInfo
from hypothesis import given
from hypothesis import strategies as st

from lab.simulators import captures, theengs
from lab.simulators.advert import Advert, Truth, from_datagram
from lab.simulators.air import Sensor, SensorSpec, damaged
from lab.simulators.control import FaultError, Faults, Pace, is_flag, is_rate
from lab.simulators.encode import IBEACON_DECOY, MODELS, encode, local_name, rounded
from lab.simulators.fleet import Config, Fleet
from lab.simulators.garbage import malformed
from lab.simulators.omg_board import Board
from lab.simulators.omg_settings import BtSettings
from lab.simulators.program import ConfigError
from lab.simulators.theengs_values import KNOWN

MAC = "A4C138112762"
START = datetime(2026, 4, 10, 12, 0, tzinfo=UTC)

models = st.sampled_from(MODELS)
readings = st.tuples(st.floats(-40, 100), st.floats(0, 99.9), st.integers(0, 100))


def read_by_govee_ble(model: str, data: str) -> Truth | None:
    raw = bytes.fromhex(data)
    info = BluetoothServiceInfo(
        name=local_name(model, MAC),
        address="A4:C1:38:11:27:62",
        rssi=-60,
        manufacturer_data={int.from_bytes(raw[:2], "little"): raw[2:]} if len(raw) > 1 else {},
        service_data={},
        service_uuids=[],
        source="",
    )
    update = GoveeBluetoothDeviceData().update(info)
    values = {key.key: value.native_value for key, value in update.entity_values.items()}
    if not isinstance(values.get("temperature"), float):
        return None
    return Truth(round(values["temperature"], 2), round(values["humidity"], 2), values["battery"])


@given(models, readings)
def test_an_encoded_reading_decodes_to_itself(model: str, reading: tuple[float, float, int]) -> None:
    truth = rounded(model, *reading)
    assert read_by_govee_ble(model, encode(model, truth)) == truth


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("temperature", [-40.0, -0.1, 0.0, 0.1, 100.0])
def test_the_edges_decode_to_themselves(model: str, temperature: float) -> None:
    truth = Truth(temperature, 99.9, 100)
    assert read_by_govee_ble(model, encode(model, truth)) == truth


def test_captures_decode_to_what_their_source_says() -> None:
    for capture in captures.readings():
        assert read_by_govee_ble(capture.model, capture.manufacturerdata) == capture.truth


@given(models, readings)
def test_a_reading_between_two_steps_is_refused(model: str, reading: tuple[float, float, int]) -> None:
    truth = rounded(model, *reading)
    with pytest.raises(ValueError, match="does not fit"):
        encode(model, replace(truth, temperature=truth.temperature + 0.003))


@given(models, st.integers(0, 1000))
def test_damaged_adverts_hold_no_reading(model: str, seed: int) -> None:
    advert = damaged(SensorSpec(MAC, "", "", model), random.Random(seed))
    data = advert.manufacturerdata or ""
    try:
        bytes.fromhex(data)
    except ValueError:
        return
    truth = read_by_govee_ble(model, data)
    assert truth is None or truth.battery > 100


@given(model=models, replay=st.booleans(), number=st.integers(0, 7), seed=st.integers(0, 50))
def test_a_sensor_drifts_but_never_jumps(model: str, *, replay: bool, number: int, seed: int) -> None:
    sensor = Sensor(SensorSpec(MAC, "", "", model), number, seed, replay=replay)
    last = None
    for _ in range(60):
        advert = next(sensor.adverts())
        assert advert.truth is not None
        assert read_by_govee_ble(model, advert.manufacturerdata or "") == advert.truth
        if last:
            assert abs(advert.truth.temperature - last.temperature) < 8
            assert abs(advert.truth.humidity - last.humidity) < 25
        last = advert.truth


def test_captures_are_replayed_under_the_sites_own_mac() -> None:
    sensor = Sensor(SensorSpec(MAC, "", "", "H5075"), 0, 1, replay=True)
    sent = [next(sensor.adverts()) for _ in range(50)]
    real = {capture.manufacturerdata for capture in captures.readings()}
    assert {advert.mac for advert in sent} == {MAC}
    assert 3 <= sum(advert.manufacturerdata in real for advert in sent) <= 20


def test_the_decoy_accompanies_the_models_that_have_it() -> None:
    h5051 = Sensor(SensorSpec(MAC, "", "", "H5051"), 0, 1, replay=False)
    sent = [advert for _ in range(10) for advert in h5051.adverts()]
    assert sum(advert.manufacturerdata == IBEACON_DECOY for advert in sent) == 5


# --- fleet


def fleet(**changes: object) -> Fleet:
    sensors = [
        {"id": f"A4C13811000{n}", "name": f"Sensor {n}", "room": "Stage", "model": model}
        for n, model in enumerate(("H5075", "H5051", "H5179", "H5100"))
    ]
    sensors[0]["cloud_id"] = "A4C138110000422A"
    return Fleet(Config.from_json({"sensors": sensors, "gateways": [], **changes}))


def sent_by(some: Fleet, seconds: int) -> list[Advert]:
    return [advert for tick in range(seconds * 10) for advert in some.due(tick / 10, START)]


def test_every_sensor_adverts_about_every_interval() -> None:
    adverts = [advert for advert in sent_by(fleet(), 60) if advert.truth]
    for number in range(4):
        assert 26 <= sum(advert.mac == f"A4C13811000{number}" for advert in adverts) <= 34


def test_the_same_seed_gives_the_same_adverts() -> None:
    assert sent_by(fleet(seed=7), 5) == sent_by(fleet(seed=7), 5)
    assert sent_by(fleet(seed=7), 5) != sent_by(fleet(seed=8), 5)


def test_a_site_of_three_or_more_has_a_sensor_below_zero() -> None:
    some = fleet()
    sent_by(some, 5)
    assert min(float(str(reading["temperature"])) for reading in some.truth.values()) < 0


def test_silent_sensors_send_nothing_and_keep_their_last_truth() -> None:
    some = fleet()
    sent_by(some, 5)
    before = dict(some.truth)
    some.faults.change({"silent": ["A4C138110001"]})
    later = {advert.mac for tick in range(50, 100) for advert in some.due(tick / 10, START)}
    assert "A4C138110001" not in later
    assert "A4C138110000" in later
    assert some.truth["A4C138110001"] == before["A4C138110001"]


def test_garbage_and_burst_keep_their_rates() -> None:
    some = fleet()
    some.faults.change({"garbage": 5, "burst": {"ids": ["A4C138110000"], "rate": 40}})
    sent_by(some, 10)
    assert 45 <= some.sent["garbage"] <= 50
    assert 390 <= some.sent["burst"] <= 400


def test_foreign_devices_are_in_the_air() -> None:
    foreign = [advert for advert in sent_by(fleet(), 5) if not advert.mac.startswith("A4C13811000")]
    companies = {(advert.manufacturerdata or "")[:4] for advert in foreign}
    assert {"4c00", "0100"} <= companies
    assert all(advert.truth is None for advert in foreign)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensors": [{"id": "a4c1", "model": "H5075"}]}, "12 upper-case"),
        ({"sensors": [{"id": MAC, "model": "H5999"}]}, "H5999"),
        ({"sensors": [{"id": MAC, "model": "H5075"}] * 2}, "twice"),
        ({"sensors": [], "intervall": 3}, "intervall"),
        ({"sensors": [], "interval": "2"}, "interval"),
        ({"sensors": [{"id": MAC, "model": "H5075", "cloud_id": "12"}]}, "cloud_id"),
    ],
)
def test_a_wrong_configuration_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_json({"gateways": [], **change})


@given(models, readings)
def test_an_advert_survives_the_air(model: str, reading: tuple[float, float, int]) -> None:
    truth = rounded(model, *reading)
    advert = Advert(MAC, local_name(model, MAC), -60, encode(model, truth), truth=truth)
    assert from_datagram(advert.datagram()) == advert


JUNK = st.dictionaries(
    st.sampled_from(["mac", "rssi", "name", "truth"]), st.none() | st.text() | st.integers()
)


@given(st.binary() | JUNK.map(lambda value: json.dumps(value).encode()))
def test_a_strange_datagram_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_datagram(data)


def test_a_fault_is_set_and_cleared_and_an_unknown_one_changes_nothing() -> None:
    faults = Faults({"silent": is_flag, "garbage": is_rate})
    faults.change({"silent": True, "garbage": 3})
    with pytest.raises(FaultError, match="smoke"):
        faults.change({"silent": None, "smoke": True})
    with pytest.raises(FaultError, match="garbage"):
        faults.change({"silent": None, "garbage": "many"})
    assert faults.on() == {"silent": True, "garbage": 3}
    faults.change({"silent": False})
    assert faults.on() == {"garbage": 3}


def test_a_pace_owes_no_more_than_a_second() -> None:
    pace = Pace()
    assert pace.due(10, 0) == 0
    assert pace.due(10, 0.5) == 5
    assert pace.due(10, 100) == 10


# --- OpenMQTTGateway

TRUTH = Truth(21.5, 50.0, 88)
H5075 = Advert(MAC, "GVH5075_2762", -67, encode("H5075", TRUTH), truth=TRUTH)
H5051 = Advert("E36059018888", "Govee_H5051_8888", -67, encode("H5051", TRUTH), truth=TRUTH)
PHONE = Advert("5A1122DCA0DC", None, -60, "4c0010054b1c9a2f11")
CONTINUOUS = {"adaptivescan": False, "pubadvdata": True}


def board(built_in: dict[str, object] | None = None, flash: dict[str, object] | None = None) -> Board:
    return Board("coachella/coachella-esp-foh", built_in or {}, flash or {}, 0.0)


def configure(some: Board, **keys: object) -> dict[str, object]:
    (answer,) = some.command("commands/MQTTtoBT/config", json.dumps(keys).encode(), 1.0)
    assert answer.topic == "coachella/coachella-esp-foh/BTtoMQTT"
    state = json.loads(answer.payload)
    assert isinstance(state, dict)
    return state


def heard(some: Board, advert: Advert, now: float = 1.0) -> dict[str, object] | None:
    message = some.hear(advert, now)
    return None if message is None else json.loads(message.payload)


def test_with_pubadvdata_the_raw_fields_come_beside_the_decoded_ones() -> None:
    message = board({"pubadvdata": True}).hear(H5075, 1.0)
    assert message is not None
    assert message.topic == f"coachella/coachella-esp-foh/BTtoMQTT/{MAC}"
    fields = json.loads(message.payload)
    assert fields["id"] == "A4:C1:38:11:27:62"
    assert fields["rssi"] == -67
    assert fields["name"] == "GVH5075_2762"
    assert fields["manufacturerdata"] == H5075.manufacturerdata
    assert fields["tempc"] == 21.5
    assert not message.retain


def test_without_pubadvdata_an_unknown_device_is_id_name_and_rssi() -> None:
    assert heard(board(), H5051) == {"id": "E3:60:59:01:88:88", "name": "Govee_H5051_8888", "rssi": -67}
    assert (heard(board(), H5075) or {}).get("manufacturerdata") is None
    assert (heard(board(), H5075) or {}).get("tempc") == 21.5


def test_onlysensors_drops_what_the_decoder_does_not_know() -> None:
    some = board({"onlysensors": True, "pubadvdata": True})
    assert heard(some, H5051) is None
    assert heard(some, H5075) is not None


def test_changing_addresses_are_dropped_unless_wanted() -> None:
    assert heard(board(), PHONE) is None
    assert heard(board({"randommacs": True}), PHONE) is not None
    undecoded = board({"extDecoderEnable": True, "pubadvdata": True}).hear(PHONE, 1.0)
    assert undecoded is not None
    assert undecoded.topic.endswith("/BTtoMQTT/undecoded")


def test_adaptive_scanning_hears_a_device_once_in_65_seconds_and_continuous_once_a_second() -> None:
    adaptive, continuous = board(), board()
    configure(continuous, **CONTINUOUS)
    seconds = [tick / 10 for tick in range(1500)]
    assert sum(heard(adaptive, H5075, now) is not None for now in seconds) == 3
    assert 120 <= sum(heard(continuous, H5075, now) is not None for now in seconds) <= 140


def test_a_passive_scan_hears_no_name() -> None:
    some = board({"forcepscn": True, "pubadvdata": True})
    assert "name" not in (heard(some, H5075) or {"name": 1})
    some = board()
    configure(some, interval=100, scanduration=1000, pubadvdata=True)  # intervalacts is still 55 s
    names = ["name" in (heard(some, H5075, 12 + 1.1 * scan) or {}) for scan in range(20)]
    assert names.count(True) == 0


def test_side_effects_of_the_scan_settings() -> None:
    state = configure(board(), adaptivescan=False)
    assert (state["interval"], state["intervalacts"], state["scanduration"]) == (100, 100, 1000)
    assert configure(board(), interval=5000)["adaptivescan"] is False
    assert configure(board(), hasspresence=True)["adaptivescan"] is False
    some = board()
    configure(some, hasspresence=True)
    assert configure(some, hasspresence=False)["adaptivescan"] is True


def test_built_in_settings_have_the_same_side_effects() -> None:
    state = configure(board({"adaptivescan": False}))
    assert (state["interval"], state["intervalacts"], state["scanduration"]) == (100, 100, 1000)


def test_interval_zero_is_one_scan_and_no_change() -> None:
    some = board()
    before = some.scanner.scans
    state = configure(some, interval=0)
    assert (state["interval"], state["adaptivescan"]) == (55555, True)
    assert some.scanner.scans == before + 1


def test_an_empty_message_reads_back_all_keys() -> None:
    assert {"pubadvdata", "interval", "minrssi", "scnct", "onlysensors"} <= set(configure(board()))


def test_only_saved_settings_survive_a_restart() -> None:
    some = board()
    configure(some, pubadvdata=True, save=True)
    configure(some, onlysensors=True)
    some.boot(100.0)
    state = configure(some)
    assert (state["pubadvdata"], state["onlysensors"]) == (True, False)
    again = board(flash=json.loads(json.dumps(some.flash)))
    assert configure(again)["pubadvdata"] is True


def test_load_init_and_erase() -> None:
    some = board({"bleconnect": False})
    configure(some, pubadvdata=True, save=True)
    configure(some, pubadvdata=False)
    assert configure(some, load=True)["pubadvdata"] is True
    assert configure(some, init=True)["pubadvdata"] is False
    assert configure(some, pubadvdata=True, save=True, erase=True)["pubadvdata"] is True
    some.boot(100.0)
    state = configure(some)
    assert (state["pubadvdata"], state["bleconnect"]) == (False, False)


def test_lists_live_in_ram_and_one_white_mac_shuts_out_all_others() -> None:
    some = board()
    configure(some, **{"white-list": ["A4:C1:38:11:27:62"], "save": True})
    assert heard(some, H5051) is None
    assert heard(some, H5075) is not None
    configure(some, **{"black-list": ["A4:C1:38:11:27:62"]})
    assert heard(some, H5075, 70.0) is None  # oneWhite never clears, so now nobody gets through
    assert heard(some, H5051, 70.0) is None
    some.boot(100.0)
    assert heard(some, H5051, 100.0) is not None


def test_a_lower_case_mac_in_a_list_matches_nothing() -> None:
    some = board()
    configure(some, **{"black-list": ["a4:c1:38:11:27:62"]})
    assert heard(some, H5075) is not None


def test_minrssi_ignores_its_sign_and_enabled_stops_the_radio() -> None:
    some = board()
    assert configure(some, minrssi=60)["minrssi"] == -60
    assert heard(some, H5075) is None
    some = board()
    configure(some, enabled=False)
    assert heard(some, H5075) is None


WRONG = st.none() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(["pubadvdata", "interval", "white-list", "save", "x"]), WRONG))
def test_values_of_the_wrong_type_change_nothing(message: dict[str, object]) -> None:
    settings = BtSettings({}, None)
    before = dict(settings.values)
    settings.apply(message)
    assert settings.values == before
    assert settings.allows("A4:C1:38:11:27:62")


def test_restart_says_why_and_status_says_how() -> None:
    some = board()
    (log,) = some.command("commands/MQTTtoSYS/config", b'{"cmd":"restart"}', 5.0)
    assert (log.topic[-9:], log.retain, json.loads(log.payload)["reason"]) == ("LOGtoMQTT", True, 5)
    assert some.restart_wanted
    (health,) = some.command("commands/MQTTtoSYS/config", b'{"cmd":"status"}', 65.0)
    fields = json.loads(health.payload)
    assert fields["uptime"] == 65
    assert {"version", "env", "freemem", "rssi", "ip", "mac", "modules", "msgblck"} <= set(fields)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"1", b'{"cmd":"dance"}', b" " * 3000 + b'{"cmd":"restart"}']
)
def test_a_senseless_command_is_ignored(payload: bytes) -> None:
    some = board()
    assert some.command("commands/MQTTtoSYS/config", payload, 1.0) == []
    assert not some.restart_wanted


def test_reports_come_at_start_and_every_two_minutes() -> None:
    some = board()
    topics = [message.topic.rsplit("/")[-1] for now in range(250) for message in some.reports(float(now))]
    assert topics == ["BTtoMQTT", "SYStoMQTT"] * 3


# --- Theengs


def test_theengs_with_advdata_adds_raw_fields() -> None:
    fields = theengs.fields(H5075, publish_advdata=True) or {}
    assert fields["manufacturerdata"] == H5075.manufacturerdata
    assert (fields["tempc"], fields["tempf"], fields["hum"], fields["batt"]) == (21.5, 70.7, 50.0, 88)


def test_theengs_without_advdata_decodes_what_it_knows_and_passes_on_the_rest() -> None:
    known = theengs.fields(H5075, publish_advdata=False) or {}
    wanted = {"name", "id", "rssi", "brand", "model", "model_id", "type", "tempc", "tempf", "hum", "batt"}
    assert set(known) == wanted
    assert theengs.fields(H5051, publish_advdata=False) == {
        "manufacturerdata": H5051.manufacturerdata,
        "name": "Govee_H5051_8888",
        "id": "E3:60:59:01:88:88",
        "rssi": -67,
    }
    assert theengs.fields(PHONE, publish_advdata=True) is None


def test_theengs_needs_the_name() -> None:
    nameless = theengs.fields(replace(H5075, name=None), publish_advdata=False) or {}
    assert "tempc" not in nameless
    assert "manufacturerdata" in nameless


@pytest.mark.parametrize("model", KNOWN)
def test_theengs_knows_a_model_by_the_name_that_the_fleet_gives_it(model: str) -> None:
    advert = Advert(MAC, local_name(model, MAC), -60, encode(model, TRUTH), truth=TRUTH)
    assert (theengs.fields(advert, publish_advdata=False) or {})["tempc"] == 21.5


def test_humidity_leaks_into_theengs_h5075_below_zero() -> None:
    cold = Truth(-24.0, 11.9, 88)
    advert = Advert(MAC, "GVH5075_2762", -60, encode("H5075", cold), truth=cold)
    assert (theengs.fields(advert, publish_advdata=False) or {})["tempc"] == -24.0119


@given(st.integers())
def test_malformed_messages_are_bytes_below_one_subtree(seed: int) -> None:
    topic, payload = malformed(random.Random(seed), [MAC])
    assert isinstance(payload, bytes)
    assert not set("+#") & set(topic)
