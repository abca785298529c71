"""Rules of the whole tree: pins in one place, no secret, nothing of one machine."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from lab.site import REPOSITORY

VERSIONS = REPOSITORY / "group_vars/all/versions.yml"
PUBLISHED_DEFAULTS = ["influxpass123", "grafanapass123", "my-super-secret-token"]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def texts() -> dict[Path, str]:
    return {path: path.read_text(errors="replace") for path in tracked()}


def images() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load(VERSIONS.read_text())["versions_images"]
    return found


@pytest.mark.parametrize("image", images().values())
def test_every_image_has_an_exact_version(image: str) -> None:
    tag = image.rpartition(":")[2]
    assert re.search(r"\d+\.\d+\.\d+", tag), f"{image}: name the exact version"


def test_roles_take_images_from_versions_yml_alone() -> None:
    for path in (REPOSITORY / "roles").glob("*/templates/compose.yml.j2"):
        for line in re.findall(r"^\s*image: (.+)$", path.read_text(), re.MULTILINE):
            assert line.startswith(("{{ versions_images.", "decoder:{{ service_build }}")), f"{path}: {line}"


def test_every_image_of_versions_yml_is_used() -> None:
    files = [path for path in (REPOSITORY / "roles").rglob("*") if path.is_file()]
    roles = "".join(path.read_text() for path in files)
    assert [name for name in images() if f"versions_images.{name}" not in roles] == []


def test_every_python_package_is_pinned_with_hashes() -> None:
    for path in [p for p in tracked() if p.name.endswith(".txt") and "requirements" in str(p)]:
        text = path.read_text()
        for line in re.findall(r"^\S.*$", text, re.MULTILINE):
            assert line.startswith("#") or "==" in line, f"{path}: {line}"
        assert text.count("==") <= text.count("--hash="), f"{path}: a pin without a hash"
        assert "http" not in text, f"{path}: an address"


def test_no_secret_is_in_the_tree() -> None:
    assert [p for p in tracked() if p.name == "vault.yml" or p.name.startswith(".vault")] == []
    key = "PRIVATE" + " KEY-----"
    checks = {"tests/test_tree.py", "plugins/action/preflight.py", "plugins/tests/test_preflight.py"}
    for path, text in texts().items():
        assert key not in text, path
        if str(path.relative_to(REPOSITORY)) not in checks:
            assert not [word for word in PUBLISHED_DEFAULTS if word in text], path


def test_what_is_generated_is_ignored_by_git() -> None:
    generated = [
        ".vault-password",
        ".rehearsal/x/vault.yml",
        "group_vars/coachella/vault.yml",
        ".venv/bin/python",
    ]
    done = subprocess.run(
        ["git", "check-ignore", *generated], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == generated


def test_links_in_the_docs_lead_somewhere() -> None:
    for path in [p for p in tracked() if p.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path}: {target}"


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for path in [p for p in tracked() if p.suffix == ".md"]:
        for name in re.findall(r"`make ([a-z][a-z-]*)", path.read_text()):
            assert name in targets, f"{path}: make {name}"
