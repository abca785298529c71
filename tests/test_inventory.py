"""Rules of a site's data: what makes a site one file and one folder, and nothing else."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.site import KINDS, REPOSITORY, known_sites, load

INVENTORY = REPOSITORY / "inventory"


def inventory(site: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INVENTORY / f"{site}.yml").read_text())
    return found


def test_group_vars_are_found_by_imported_playbooks_too() -> None:
    """Playbooks in playbooks/ do not see the root's group_vars, but those beside the inventory."""
    link = INVENTORY / "group_vars"
    assert link.is_symlink()
    assert link.resolve() == REPOSITORY / "group_vars"


@pytest.mark.parametrize("site", known_sites())
def test_every_host_has_exactly_one_kind(site: str) -> None:
    groups = inventory(site)
    assert set(groups) <= {site, *KINDS}, "a site's file names the site and the kinds, nothing else"
    kinds = [host for kind in KINDS for host in groups.get(kind, {}).get("hosts", {})]
    assert sorted(kinds) == sorted(groups[site]["hosts"])
    assert len(groups["ops"]["hosts"]) == 1


@pytest.mark.parametrize("site", known_sites())
def test_no_kind_is_nested_under_a_site(site: str) -> None:
    """Group names are global: two sites with a nested kind would merge."""
    assert all("children" not in group for group in inventory(site).values())


@pytest.mark.parametrize("site", known_sites())
def test_hosts_are_named_after_their_site_and_stand_in_its_subnet(site: str) -> None:
    described = load(site)
    variables = yaml.safe_load((REPOSITORY / f"group_vars/{site}/main.yml").read_text())
    addresses = [host.address for host in described.hosts]
    assert all(host.name.startswith(f"{site}-") for host in described.hosts)
    assert all(ip_address(a) in ip_network(variables["site_subnet"]) for a in addresses)
    assert len(set(addresses)) == len(addresses)


def test_no_two_sites_share_a_subnet_or_a_sensor() -> None:
    sites = [load(name) for name in known_sites()]
    for one in sites:
        for other in sites:
            if one is not other:
                assert not one.subnet.overlaps(other.subnet)
                assert not {s["id"] for s in one.sensors} & {s["id"] for s in other.sensors}


@pytest.mark.parametrize("site", known_sites())
def test_no_role_or_playbook_names_a_site(site: str) -> None:
    """A site is only data."""
    places = [REPOSITORY / "site.yml", *REPOSITORY.glob("playbooks/**/*"), *REPOSITORY.glob("roles/**/*")]
    texts = {path: path.read_text() for path in places if path.is_file() and path.suffix != ".md"}
    assert [path for path, text in texts.items() if site in text] == []


def test_the_second_site_has_the_same_variables_as_the_first() -> None:
    def keys(path: Path) -> set[str]:
        return set(yaml.safe_load(path.read_text()))

    first, *others = sorted((REPOSITORY / "group_vars").glob("*/main.yml"))
    first, *others = [p for p in (first, *others) if p.parent.name != "all"]
    assert all(keys(other) == keys(first) for other in others)
