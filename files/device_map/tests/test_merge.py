import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_map.identity import checked_name
from device_map.merge import Device, devices_json, match_cloud_ids, merge, models_json
from device_map.sources import CloudDevice, Entry, SourceError, parse_api

A, B = "A4C138000001", "A4C138000002"
INVENTORY = {
    A: Entry(A, "stage_left", "stage", "H5075"),
    B: Entry(B, "foh", "foh", "H5074", "33FA4381ECA1010A"),
}


def cloud(key: str, name: str = "app", room: str = "", model: str = "H5179") -> CloudDevice:
    return CloudDevice(key, name, room, model)


def devices(*sources: object) -> dict[str, Device]:
    return {device.id: device for device in merge(*sources)}  # type: ignore[arg-type]


def test_overrides_win_over_the_inventory_field_by_field() -> None:
    merged = devices(INVENTORY, {A: Entry(A, name="stage_right")}, [])
    assert merged[A] == Device(A, "stage_right", "stage", "H5075", (), "override")
    assert merged[B] == Device(B, "foh", "foh", "H5074", ("33FA4381ECA1010A",), "inventory")


def test_an_override_adds_a_sensor_the_inventory_lacks() -> None:
    mac = "A4C138000009"
    assert devices(INVENTORY, {mac: Entry(mac, room="green")}, [])[mac].name == mac
    filled = devices(INVENTORY, {mac: Entry(mac, room="green")}, [cloud("1954" + mac, "ice", "truck")])[mac]
    assert filled == Device(mac, "ice", "green", "H5179", ("1954" + mac,), "override")


@pytest.mark.parametrize("key", ["1954" + A, A + "1976", "01000038C1A4" + "1976", ("1954" + A).lower()])
def test_a_mac_inside_a_cloud_id_is_found(key: str) -> None:
    merged = devices(INVENTORY, {}, [cloud(key, "another name", "another room")])
    assert merged[A] == Device(A, "stage_left", "stage", "H5075", (key,), "inventory")
    assert set(merged) == {A, B}
    table = json.loads(devices_json(merged.values()))
    assert table[key] == {"device_name": "stage_left", "room": "stage", "z_device_id": A}
    assert table[A] == {"device_name": "stage_left", "room": "stage"}


def test_the_inventory_cloud_id_comes_first() -> None:
    # Its digits hold A, but the crew wrote that it is B's.
    inventory = {A: INVENTORY[A], B: Entry(B, "foh", "foh", "H5074", "1954" + A)}
    assert match_cloud_ids({"1954" + A}, inventory, {}) == {"1954" + A: B}
    # B has its id: another id with B's digits is in doubt.
    assert match_cloud_ids({"1954" + B}, inventory, {}) == {}


def test_doubt_is_no_match() -> None:
    macs = {A: Entry(A, "a"), "0100000000FF": Entry("0100000000FF", "b")}
    assert match_cloud_ids({"0100000000FF" + A}, {}, macs) == {}
    assert match_cloud_ids({"1954" + A, "1955" + A}, {}, macs) == {}


def test_both_spellings_of_the_explicit_id_are_served() -> None:
    table = json.loads(devices_json(merge(INVENTORY, {}, [cloud("33fa4381eca1010a")])))
    assert table["33FA4381ECA1010A"] == table["33fa4381eca1010a"]
    assert table["33fa4381eca1010a"]["z_device_id"] == B


def test_an_unknown_cloud_device_stands_alone() -> None:
    merged = devices(INVENTORY, {}, [cloud("17a8D003C1061976", "ice_truck"), cloud("17A8D003C1061977", "")])
    assert merged["17a8D003C1061976"].room == "unassigned"
    assert merged["17A8D003C1061977"].name == "17A8D003C1061977"
    table = json.loads(devices_json(merged.values()))
    assert table["17a8D003C1061976"] == {"device_name": "ice_truck", "room": "unassigned"}
    assert json.loads(models_json(merged.values())) == {A: "H5075", B: "H5074"}


@pytest.mark.parametrize("name", ["stage_left", "Stage_Left"])
def test_two_sensors_of_one_name_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match=f"{B} and {A}|{A} and {B}.*in the overrides"):
        merge(INVENTORY, {B: Entry(B, name=name)}, [])
    with pytest.raises(SourceError, match="`sensors:`"):
        merge({A: Entry(A, "x"), B: Entry(B, "x")}, {}, [])


def test_names_may_be_swapped() -> None:
    merged = devices(INVENTORY, {A: Entry(A, name="foh"), B: Entry(B, name="stage_left")}, [])
    assert (merged[A].name, merged[B].name) == ("foh", "stage_left")


macs = st.integers(0, 15).map(lambda n: f"A4C1380000{n:02X}")
cloud_keys = st.tuples(st.sampled_from(["1954{}", "{}1976", "{}", "17A8D003C10619{}"]), macs).flatmap(
    lambda pair: st.sampled_from([pair[0].format(pair[1]), pair[0].format(pair[1]).lower()])
)
app_lists = st.lists(
    st.fixed_dictionaries(
        {"id": cloud_keys, "name": st.text(), "sku": st.text(), "room": st.none() | st.text()}
    ),
    min_size=1,
)
entries = st.dictionaries(macs, st.booleans()).map(
    lambda found: {mac: Entry(mac, f"n{mac}", "r" if full else None, "H5075") for mac, full in found.items()}
)


@given(entries, entries, app_lists, st.randoms())
def test_order_and_repetition_of_the_cloud_list_do_not_matter(
    inventory: dict[str, Entry], overrides: dict[str, Entry], app: list[dict[str, str]], random: object
) -> None:
    found = parse_api(json.dumps(app).encode())
    shuffled, listed = app + app[:3], found + found[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    random.shuffle(listed)  # type: ignore[attr-defined]
    assert parse_api(json.dumps(shuffled).encode()) == found
    once = merge(inventory, overrides, found)
    assert merge(inventory, overrides, listed) == once


@given(entries, entries, app_lists)
def test_the_cloud_takes_nothing_away(
    inventory: dict[str, Entry], overrides: dict[str, Entry], app: list[dict[str, str]]
) -> None:
    found = parse_api(json.dumps(app).encode())
    merged = merge(inventory, overrides, found)
    without, table = merge(inventory, overrides, []), json.loads(devices_json(merged))
    by_id = {device.id: device for device in merged}
    for device in without:
        assert by_id[device.id].name == device.name
        assert by_id[device.id].room == device.room or device.room == "unassigned"
    assert {device.key for device in found} | set(inventory) | set(overrides) == set(table)
    assert json.loads(models_json(without)).items() <= json.loads(models_json(merged)).items()


@given(entries, app_lists)
def test_any_app_name_makes_valid_json_and_fit_tags(
    inventory: dict[str, Entry], app: list[dict[str, str]]
) -> None:
    table = json.loads(devices_json(merge(inventory, {}, parse_api(json.dumps(app).encode()))))
    for key, tags in table.items():
        assert set(tags) <= {"device_name", "room", "z_device_id"}
        assert all(checked_name(value) == value for value in tags.values())
        assert tags.get("z_device_id", "") in {"", *inventory}
        assert key.isalnum()
