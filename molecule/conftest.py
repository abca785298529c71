"""The rehearsed site, its host, its broker and its database, for the tests of every scenario."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import testinfra
from scenario import Client, Database

from lab import boxes
from lab.site import Site, load

SITE = os.environ.get("SCENARIO_SITE", "stagecoach")


@pytest.fixture(scope="session")
def site() -> Site:
    return load(SITE)


@pytest.fixture(scope="session")
def vault(site: Site) -> dict[str, Any]:
    return boxes.vault(site)


@pytest.fixture(scope="session")
def host(site: Site) -> Any:
    """The site host, as root over SSH."""
    return testinfra.get_host(
        f"ssh://ops@{site.ops.address}",
        ssh_identity_file=str(site.state / "id_ed25519"),
        ssh_extra_args=f"-o UserKnownHostsFile={site.state}/known_hosts",
        sudo=True,
    )


@pytest.fixture(scope="session")
def database(site: Site) -> Database:
    return Database(site)


@pytest.fixture
def client(site: Site, vault: dict[str, Any]) -> Iterator[Callable[..., Client]]:
    """Make a client: `client("crew", "topic/#", …)`; closed at the end of the test."""
    made: list[Client] = []

    def make(user: str, *topics: str, password: str | None = None) -> Client:
        kind = type("Subscribed", (Client,), {"topics": topics})
        new: Client = kind(site, user, password or vault["vault_mqtt_passwords"].get(user, "nobody's"))
        made.append(new)
        assert new.ready.wait(10), f"{user} got no answer from the broker"
        return new

    yield make
    for one in made:
        one.close()
