"""bin/make-secrets: adds what is missing, keeps what is there, leaves gaps that are said."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from lab.site import REPOSITORY

PROGRAM = REPOSITORY / "bin/make-secrets"


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    loader = SourceFileLoader("make_secrets", str(PROGRAM))
    spec = spec_from_loader("make_secrets", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    module.PASSWORD_FILE = tmp_path / ".vault-password"
    return module


def test_secrets_are_long_and_each_its_own(program: ModuleType) -> None:
    made = program.complete({}, ["esp", "nuc"], "gap")
    values = [*made.pop("vault_mqtt_passwords").values(), *(v for v in made.values() if v != "gap")]
    assert len(set(values)) == len(values) == 10
    assert min(map(len, values)) >= 32


def test_what_is_there_stays_and_a_new_gateway_is_added(program: ModuleType) -> None:
    old = program.complete({"vault_mine": "kept"}, ["esp"], "gap") | {"vault_govee_api_key": "my key"}
    new = program.complete(old, ["esp", "nuc"], "gap")
    added = new["vault_mqtt_passwords"].pop("nuc")
    assert added
    assert new == old


def test_a_vault_is_encrypted_private_and_read_again(program: ModuleType, tmp_path: Path) -> None:
    path, made = tmp_path / "vault.yml", program.complete({}, ["esp"], "gap")
    box = program.vault()
    program.write_secret(path, box.encrypt(program.render(made)).decode())
    assert path.read_text().startswith("$ANSIBLE_VAULT")
    assert path.stat().st_mode & 0o777 == 0o600
    assert program.PASSWORD_FILE.stat().st_mode & 0o777 == 0o600
    assert program.read(path, program.vault()) == made


def test_a_vault_of_another_password_is_refused_and_left_alone(program: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "vault.yml"
    program.write_secret(path, program.vault().encrypt("a: 1").decode())
    before = path.read_bytes()
    program.PASSWORD_FILE.write_text("another")
    with pytest.raises(program.Mistake, match="another password"):
        program.read(path, program.vault())
    assert path.read_bytes() == before


def test_a_misspelt_site_is_named_with_the_known_ones() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "coachela"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no inventory/coachela.yml" in done.stderr
    assert "coachella, stagecoach" in done.stderr
