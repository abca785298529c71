import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_map.sources import CloudDevice, Entry, SourceError, parse_api, parse_inventory, parse_overrides

SENSOR = {"id": "a4:c1:38:00:00:01", "name": "stage_left", "room": "stage", "model": "H5075"}


def test_inventory_is_read_by_mac() -> None:
    entries = parse_inventory(json.dumps([{**SENSOR, "cloud_id": None}]), "f")
    assert entries == {"A4C138000001": Entry("A4C138000001", "stage_left", "stage", "H5075")}


@pytest.mark.parametrize(
    ("sensors", "message"),
    [
        (
            [SENSOR, {**SENSOR, "id": "A4C138000001", "name": "b"}],
            "sensor 2: id A4C138000001 is listed",
        ),
        ([{**SENSOR, "id": "A4C1"}], "sensor 1 .A4C1.: id: 'A4C1' is no MAC"),
        ([{**SENSOR, "id": 123456789012}], "sensor 1: id must be text. Put it in quotes"),
        ([{**SENSOR, "naem": "x"}], "unknown field naem. Known: id, name"),
        ([{"id": "A4C138000001", "name": "a"}], "sensor 1: room, model missing"),
        ([{**SENSOR, "name": 'a"b'}], "name: .* quote or backslash: remove it"),
        ([{**SENSOR, "cloud_id": "A4C138000002"}], "12 hex digits, a cloud id has 16"),
        (
            [
                {**SENSOR, "cloud_id": "33fa4381eca1010a"},
                {**SENSOR, "id": "A4C138000002", "cloud_id": "33FA4381ECA1010A"},
            ],
            "sensor 2: cloud_id .* belongs to two sensors",
        ),
        ({"sensors": []}, "expected a list"),
        (["A4C138000001"], "sensor 1: expected fields"),
    ],
)
def test_a_wrong_inventory_names_file_entry_and_remedy(sensors: object, message: str) -> None:
    with pytest.raises(SourceError, match=f"^inventory.json: .*{message}"):
        parse_inventory(json.dumps(sensors), "inventory.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"A4C1": {}}', "entry 'A4C1': id: 'A4C1' is no MAC"),
        ('{"A4C138000001": {"name": "a"}, "A4C138000001": {}}', "a key occurs twice"),
        ('{"A4C138000001": {"name": "a"}, "a4:c1:38:00:00:01": {}}', "twice, in two spellings"),
        ('{"A4C138000001": {"sku": "H5075"}}', "unknown field sku. Known: name, room, model"),
        ('{"A4C138000001": {"name": ""}}', "has 0 characters"),
        ('{"A4C138000001": "foh"}', "expected fields"),
        ("[]", "expected"),
        ("{", "not valid JSON"),
        ("[" * 200_000, "not valid JSON"),
    ],
)
def test_wrong_overrides_name_file_entry_and_remedy(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"^overrides.json: .*{message}"):
        parse_overrides(text, "overrides.json")


def test_an_override_may_say_any_part() -> None:
    entries = parse_overrides('{"a4:c1:38:00:00:01": {"room": "foh"}}', "f")
    assert entries == {"A4C138000001": Entry("A4C138000001", room="foh")}


def test_api_devices_are_tidied_and_groups_left_out() -> None:
    body = json.dumps(
        [
            {"sku": "H5179", "id": "17:a8:D0:03:C1:06:19:76", "name": "Ice Truck", "room": None, "state": {}},
            {"sku": "SameModeGroup", "id": "11133334", "name": "all lamps", "room": None},
        ]
    ).encode()
    assert parse_api(body) == [CloudDevice("17a8D003C1061976", "ice_truck", "", "H5179")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"<html>",
        b'[{"id": 5}]',
        b'[{"name": "x"}]',
        b"[1]",
        b"\xff",
        b'[{"id":"1"}]',
    ],
)
def test_an_answer_without_a_device_is_refused(body: bytes) -> None:
    with pytest.raises(SourceError):
        parse_api(body)


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "name", "sku", "room"]), inner),
)


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_no_answer_gives_an_empty_list(body: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert parse_api(body)
