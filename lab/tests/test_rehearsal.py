import subprocess
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from lab import boxes, readings
from lab.console import Problem
from lab.site import REPOSITORY, known_sites, load

NOW = datetime(2026, 4, 10, 20, 0, 10, tzinfo=UTC)


def row(**changes: str) -> dict[str, str]:
    return {
        "_time": "2026-04-10T20:00:08.500Z",
        "_value": "-4.5",
        "device_name": "rack",
        "room": "foh",
        "sensor_type": "temperature",
        "source_node": "site-esp",
        "z_device_id": "A4C138F90A11",
    } | changes


@pytest.mark.parametrize(
    ("value", "kind", "unit", "expected"),
    [
        (-4.5, "temperature", "F", ("23.9", "°F")),
        (-4.5, "temperature", "C", ("-4.5", "°C")),
        (45.62, "humidity", "F", ("45.6", "%")),
        (88.0, "battery", "F", ("88", "%")),
    ],
)
def test_values_are_shown_in_the_sites_unit(
    value: float, kind: str, unit: str, expected: tuple[str, str]
) -> None:
    assert readings.shown(value, kind, unit) == expected


def test_the_newest_gateway_speaks_for_a_device_and_the_cloud_for_itself() -> None:
    older = row(_time="2026-04-10T20:00:01Z", source_node="site-nuc", _value="9")
    cloud = row(source_node="govee2mqtt", _value="-4.4")
    signal = row(sensor_type="rssi", _value="-60")
    assert readings.newest([older, cloud, row(), signal]) == [cloud, row()]


def test_the_table_has_name_room_value_unit_age_and_gateway() -> None:
    head, line = readings.table([row()], "F", NOW).splitlines()
    assert head.split() == ["device", "room", "quantity", "value", "unit", "age", "gateway"]
    assert line.split() == ["rack", "foh", "temperature", "23.9", "°F", "1.5", "s", "site-esp"]


@pytest.mark.parametrize("name", known_sites())
def test_simulators_stand_at_the_inventorys_addresses_with_accounts_of_their_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load(name)
    passwords = {host.name: f"password of {host.name}" for host in site.hosts}
    monkeypatch.setattr(boxes, "vault", lambda _site: {"vault_mqtt_passwords": passwords})
    made: dict[str, Any] = {
        program: (who, where, config) for who, where, program, config in boxes.simulators(site)
    }
    for host in site.of_kind("esp32"):
        who, where, config = made["openmqttgateway"]
        assert (who, where) == (host.name, host.address)
        assert config["broker"]["password"] == passwords[host.name]
    radios = {radio["host"] for radio in made["fleet"][2]["gateways"]}
    assert radios == {host.address for host in site.of_kind("esp32", "theengs")}


@pytest.mark.parametrize("name", known_sites())
def test_the_fleet_takes_an_address_that_the_inventory_leaves_free(name: str) -> None:
    site = load(name)
    assert site.fleet_address not in {host.address for host in site.hosts}
    assert ip_address(site.fleet_address) in site.subnet


def test_a_misspelt_site_is_a_sentence_and_exit_code_1() -> None:
    command = [sys.executable, "-m", "lab", "rehearse", "coachela"]
    env = {"PYTHONPATH": str(REPOSITORY / "lab/src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no site 'coachela'; inventory/ has coachella, stagecoach."


def test_a_site_that_was_never_up_has_no_readings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.site.REPOSITORY", tmp_path)
    site = load_from_here("coachella", monkeypatch)
    with pytest.raises(Problem, match="make rehearse SITE=coachella"):
        readings.token(site)


def load_from_here(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The site as the repository has it, with its state where the test put it."""
    with monkeypatch.context() as here:
        here.setattr("lab.site.REPOSITORY", REPOSITORY)
        return load(name)
