"""Rules of the playbooks, each from something that went wrong elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.site import REPOSITORY

PLAYBOOKS = sorted((REPOSITORY / "playbooks").glob("*.yml"))


def plays(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return found


def test_site_yml_is_only_the_map() -> None:
    assert all(
        set(play) == {"name", "ansible.builtin.import_playbook"} for play in plays(REPOSITORY / "site.yml")
    )


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda p: p.stem)
def test_no_play_is_on_localhost(path: Path) -> None:
    """`-l coachella` would skip it without a word: the site's ops host does such work."""
    assert all("localhost" not in str(play["hosts"]) for play in plays(path))


@pytest.mark.parametrize(
    "path",
    [*PLAYBOOKS, *(REPOSITORY / "roles").glob("*/*/*.yml")],
    ids=lambda p: str(p.relative_to(REPOSITORY)),
)
def test_nothing_runs_once_or_ignores_errors(path: Path) -> None:
    """With two sites `run_once` runs for the first alone."""
    text = path.read_text()
    for word in ("run_once", "ignore_errors", "molecule-notest", "state: latest", "rehears"):
        assert word not in text


@pytest.mark.parametrize(
    "path", [p for p in PLAYBOOKS if p.stem in {"preflight", "ops"}], ids=lambda p: p.stem
)
def test_a_failure_at_one_site_stops_the_rest(path: Path) -> None:
    assert all(play["any_errors_fatal"] is True for play in plays(path))


def test_sites_are_set_up_one_after_the_other() -> None:
    assert all(play["serial"] == 1 for play in plays(REPOSITORY / "playbooks/ops.yml"))


def test_a_roles_tag_is_its_name() -> None:
    (play,) = plays(REPOSITORY / "playbooks/ops.yml")
    for entry in play["roles"]:
        assert entry["role"] in entry["tags"]
