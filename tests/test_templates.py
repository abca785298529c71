"""Every template of every site, rendered in seconds without a host, and read as what it is."""

import json
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

from lab.site import REPOSITORY, known_sites

ROLES = [p.name for p in sorted((REPOSITORY / "roles").iterdir()) if (p / "templates").is_dir()]


def secrets(gateways: list[str]) -> dict[str, Any]:
    loader = SourceFileLoader("make_secrets", str(REPOSITORY / "bin/make-secrets"))
    spec = spec_from_loader("make_secrets", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    made: dict[str, Any] = module.complete({}, gateways, "FILL-ME")
    return made


@pytest.fixture(scope="module", params=known_sites())
def variables(request: pytest.FixtureRequest) -> dict[str, Any]:
    """All variables of a site's ops host, as Ansible itself puts them together."""
    filter_loader.add_directory(str(REPOSITORY / "plugins/filter"))
    loader = DataLoader()
    inventory = InventoryManager(loader, sources=[str(REPOSITORY / "inventory")])
    manager = VariableManager(loader, inventory)
    host = inventory.get_host(f"{request.param}-ops")
    found: dict[str, Any] = manager.get_vars(host=host)
    for kind in ("defaults", "vars"):
        for path in REPOSITORY.glob(f"roles/*/{kind}/main.yml"):
            found |= loader.load_from_file(str(path), trusted_as_template=True) or {}
    kinds = found["groups"]
    gateways = [h for h in kinds[request.param] if h in kinds["esp32"] + kinds["theengs"]]
    return found | secrets(gateways) | {"service_config": "0123456789ab", "service_build": "ba9876543210"}


def render(path: Path, variables: dict[str, Any]) -> str:
    templar = Templar(DataLoader(), variables)
    overrides = {"trim_blocks": True, "lstrip_blocks": True}
    text: str = templar.template(trust_as_template(path.read_text()), overrides=overrides)
    return text


def rendered(role: str, variables: dict[str, Any]) -> dict[str, str]:
    folder = REPOSITORY / "roles" / role / "templates"
    return {str(p.relative_to(folder))[:-3]: render(p, variables) for p in sorted(folder.rglob("*.j2"))}


@pytest.mark.parametrize("role", ROLES)
def test_every_template_renders_and_is_what_its_name_says(role: str, variables: dict[str, Any]) -> None:
    readers = {".yml": yaml.safe_load, ".yaml": yaml.safe_load, ".json": json.loads, ".conf": None}
    for name, text in rendered(role, variables).items():
        assert "{{" not in text.replace('{{.Tag "z_device_id"}}', ""), name
        reader = readers.get(Path(name).suffix)
        assert text.strip(), name
        if reader:
            assert reader(text), name


def test_every_container_is_limited_restarts_and_may_do_little(variables: dict[str, Any]) -> None:
    for role in ROLES:
        fragment = rendered(role, variables).get("compose.yml")
        for name, service in (yaml.safe_load(fragment)["services"] if fragment else {}).items():
            assert name == service["container_name"] == role, "the same noun everywhere"
            assert service["restart"] == "unless-stopped"
            assert service["mem_limit"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges"]
            assert "healthcheck" in service or role == "govee2mqtt"
            for port in service.get("ports", []):
                assert port.startswith((f"{variables['ansible_host']}:", "127.0.0.1:")), port


def test_telegraf_takes_nothing_from_another_site(variables: dict[str, Any]) -> None:
    text = rendered("telegraf", variables)["config/telegraf.conf"]
    config = tomllib.loads(text)
    topics = [topic for i in config["inputs"]["mqtt_consumer"] for topic in i["topics"]]
    assert all(t.startswith((f"{variables['site_name']}/", "gv2mqtt/")) for t in topics)
    orders = [p["order"] for kind in config["processors"].values() for p in kind]
    assert len(orders) == len(config["processors"]["regex"]) + 3, "every processor says its order"


def test_telegrafs_buffer_holds_all_that_can_be_in_flight(variables: dict[str, Any]) -> None:
    """What overflows is dropped without an acknowledgement."""
    config = tomllib.loads(rendered("telegraf", variables)["config/telegraf.conf"])
    in_flight = sum(i.get("max_undelivered_messages", 1000) for i in config["inputs"]["mqtt_consumer"])
    quantities = 4
    assert (
        config["agent"]["metric_buffer_limit"]
        >= quantities * in_flight + config["agent"]["metric_batch_size"]
    )


def test_every_account_of_the_broker_has_a_password(variables: dict[str, Any]) -> None:
    files = rendered("mosquitto", variables)
    accounts = [line.split(":")[0] for line in files["config/passwd"].splitlines() if line]
    listed = [
        line.removeprefix("user ") for line in files["config/acl"].splitlines() if line.startswith("user ")
    ]
    assert accounts == listed
    assert {"decoder", "telegraf", f"{variables['site_name']}-nuc"} <= set(accounts)
    before_first_user = files["config/acl"].partition("user ")[0]
    assert "topic" not in before_first_user, "that would be for everybody"
