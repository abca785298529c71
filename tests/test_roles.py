"""Rules of the roles: all of one shape, and what they take is written down once."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.site import REPOSITORY

ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def options(role: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_defaults_and_specification_name_the_same_variables_with_the_same_values(role: Path) -> None:
    specified = {
        name: option["default"] for name, option in options(role).items() if not option.get("required")
    }
    assert specified == (load(role / "defaults/main.yml") or {})


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_readme_lists_exactly_the_variables(role: Path) -> None:
    named = set(re.findall(rf"`({role.name}_\w+)`", (role / "README.md").read_text()))
    assert named == set(options(role))


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_public_names_begin_with_the_role_and_private_ones_with_two_underscores(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options(role))
    constants = load(role / "vars/main.yml") or {}
    assert all(name.startswith(f"__{role.name}_") for name in constants)


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_main_reads_as_a_table_of_contents(role: Path) -> None:
    assert len((role / "tasks/main.yml").read_text().splitlines()) <= 60


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.name)
def test_readme_is_half_a_page(role: Path) -> None:
    assert 3 <= len((role / "README.md").read_text().splitlines()) <= 30
