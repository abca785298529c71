"""A site as its inventory and group_vars describe it: what a rehearsal has to build."""

import argparse
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import yaml

from lab.console import Problem

REPOSITORY = Path(__file__).resolve().parents[3]
KINDS = ("ops", "esp32", "theengs", "m4300")


@dataclass(frozen=True)
class Host:
    """A machine of the inventory."""

    name: str
    address: str
    kind: str


@dataclass(frozen=True)
class Site:
    """What a rehearsal needs to know of a site."""

    name: str
    subnet: IPv4Network
    temperature_unit: str
    sensors: list[dict[str, str]]
    hosts: list[Host]

    def of_kind(self, *kinds: str) -> list[Host]:
        """Machines of some kinds."""
        return [host for host in self.hosts if host.kind in kinds]

    @property
    def ops(self) -> Host:
        """The site host."""
        return self.of_kind("ops")[0]

    @property
    def network(self) -> str:
        """Name of the site's Docker network."""
        return f"site-{self.name}"

    @property
    def fleet_address(self) -> str:
        """Address for the simulated sensors and their cloud: one that the inventory leaves free."""
        taken = {host.address for host in self.hosts}
        return next(str(a) for a in reversed(list(self.subnet.hosts())) if str(a) not in taken)

    @property
    def state(self) -> Path:
        """Folder for what belongs to this rehearsal: key, secrets, configuration of the simulators."""
        return REPOSITORY / ".rehearsal" / self.name


def known_sites() -> list[str]:
    """Names of all sites."""
    return sorted(path.stem for path in (REPOSITORY / "inventory").glob("*.yml"))


def load(name: str) -> Site:
    """Read a site; a Problem says what is missing."""
    if name not in known_sites():
        raise Problem(f"There is no site {name!r}; inventory/ has {', '.join(known_sites())}.")
    inventory = yaml.safe_load((REPOSITORY / f"inventory/{name}.yml").read_text())
    variables: dict[str, Any] = yaml.safe_load((REPOSITORY / f"group_vars/{name}/main.yml").read_text())
    addresses = inventory[name]["hosts"]
    hosts = [
        Host(host, addresses[host]["ansible_host"], kind)
        for kind in KINDS
        for host in inventory.get(kind, {}).get("hosts", {})
    ]
    subnet = IPv4Network(variables["site_subnet"])
    return Site(name, subnet, variables["temperature_unit"], variables["sensors"], hosts)


def from_arguments(description: str | None) -> Site:
    """The site that a script's only argument names."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", choices=known_sites())
    return load(parser.parse_args().site)
