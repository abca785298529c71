import copy
from typing import Any

import pytest

from action import preflight

GOOD_HOST: dict[str, Any] = {
    "os": "debian",
    "os_version": "13.1",
    "root": True,
    "disk_free": 40 * preflight.GIB,
    "memory": 8 * preflight.GIB,
    "has_address": True,
    "ports": [22],
    "services": [],
}
GOOD_SITE: dict[str, Any] = {
    "site_name": "meadow",
    "site_timezone": "Europe/Berlin",
    "site_subnet": "10.9.0.0/24",
    "temperature_unit": "C",
    "sensors": [{"id": "A4C138F90A11", "name": "rack", "room": "foh", "model": "H5075"}],
}
SECRET = "x" * 20


def host_says(**changes: Any) -> list[str]:
    return preflight.host_problems(GOOD_HOST | changes, "ops", "10.9.0.10", skew=0.1)


def site_says(**changes: Any) -> list[str]:
    return preflight.site_problems(copy.deepcopy(GOOD_SITE) | changes, "10.9.0.10")


def secrets_say(**changes: Any) -> list[str]:
    passwords = dict.fromkeys([*preflight.MQTT_SERVICES, "esp"], SECRET)
    good = {
        "vault_influxdb_operator_token": SECRET,
        "vault_influxdb_admin_password": SECRET,
        "vault_grafana_admin_password": SECRET,
        "vault_govee_api_key": "FILL-ME",
        "vault_mqtt_passwords": passwords,
    }
    return preflight.secret_problems(good | changes, "meadow", ["esp"])


def test_a_good_site_has_no_problems() -> None:
    assert host_says() + site_says() + secrets_say() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"os": "ubuntu", "os_version": "24.04"}, "install Debian 13"),
        ({"os_version": "12"}, "install Debian 13"),
        ({"root": False}, "sudo without a password"),
        ({"disk_free": 3 * preflight.GIB}, "3.0 GB free"),
        ({"memory": preflight.GIB}, "1.0 GB of memory"),
        ({"has_address": False}, "does not have the address 10.9.0.10"),
        ({"ports": [22, 1883]}, "Port 1883 on ops is taken, mosquitto needs it"),
    ],
)
def test_each_fault_of_a_host_is_named(changes: dict[str, Any], words: str) -> None:
    assert len(found := host_says(**changes)) == 1
    assert words in found[0]


def test_a_deployed_host_needs_less_room_and_owns_its_ports() -> None:
    assert host_says(disk_free=3 * preflight.GIB, ports=[1883], services=["mosquitto"]) == []


@pytest.mark.parametrize("skew", [-3600.0, 61.0])
def test_a_wrong_clock_is_named_with_its_direction(skew: float) -> None:
    (found,) = preflight.host_problems(GOOD_HOST, "ops", "10.9.0.10", skew)
    assert ("behind" if skew < 0 else "ahead of") in found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sensors": None}, "lack sensors"),
        ({"site_name": "Mea dow"}, "small letters"),
        ({"temperature_unit": "K"}, "write F or C"),
        ({"site_subnet": "10.8.0.0/24"}, "is not in site_subnet"),
        ({"site_subnet": "10.9.0.7/24"}, "has host bits set"),
    ],
)
def test_each_fault_of_a_site_is_named(changes: dict[str, Any], words: str) -> None:
    assert len(found := site_says(**changes)) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            {"id": "A4C138F90A11", "name": "b", "room": "r", "model": "H5075"},
            "id A4C138F90A11 is there twice",
        ),
        ({"id": "A4C138F90A12", "name": "rack", "room": "r", "model": "H5075"}, "name rack is there twice"),
        ({"id": "a4:c1:38:f9:0a:12", "name": "b", "room": "r", "model": "H5075"}, "12 capital hex digits"),
        ({"id": "A4C138F90A12", "name": "b", "model": "H5075"}, "lacks room"),
    ],
)
def test_each_fault_of_a_sensor_is_named(second: dict[str, str], words: str) -> None:
    assert len(found := site_says(sensors=[*GOOD_SITE["sensors"], second])) == 1
    assert words in found[0]


def test_missing_weak_and_published_secrets_are_named_but_not_shown() -> None:
    assert "make secrets SITE=meadow" in secrets_say(vault_mqtt_passwords=None)[0]
    assert "esp" in secrets_say(vault_mqtt_passwords=dict.fromkeys(preflight.MQTT_SERVICES, SECRET))[0]
    (found,) = secrets_say(vault_grafana_admin_password="grafanapass123")
    assert "vault_grafana_admin_password" in found
    assert "grafanapass123" not in found


def test_a_misspelt_variable_of_a_role_is_named() -> None:
    specs = {"influxdb": {"influxdb_retention_days"}, "docker": set(), "docker_x": {"docker_x_y"}}
    known = ["influxdb_retention_days", "docker_x_y", "site_name"]
    assert preflight.variable_problems(known, specs) == []
    (found,) = preflight.variable_problems(["influxdb_retention"], specs)
    assert "influxdb_retention_days" in found
