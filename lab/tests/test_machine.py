"""What the machine says of itself (routes, mounts, engine) and what is concluded from it."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import machine
from lab.console import Problem

SITE = "10.20.0.0/24"
OWN = {"dst": "10.20.0.0/24", "dev": "br-0123456789ab", "protocol": "kernel"}
DEFAULT = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}


@pytest.mark.parametrize(
    ("dst", "taken"),
    [
        ("10.20.0.0/24", True),  # the site's own network, at home
        ("10.0.0.0/8", True),  # a company VPN
        ("10.20.0.213", True),  # one address, as `ip -j route` writes a /32
        ("10.20.1.0/24", False),
        ("128.0.0.0/1", False),
        ("0.0.0.0/1", False),  # a VPN that takes everything
    ],
)
def test_a_route_of_another_network_takes_the_subnet(dst: str, taken: bool) -> None:  # noqa: FBT001  a table
    found = machine.overlapping([DEFAULT, {"dst": dst, "dev": "tun0"}], SITE, None)
    assert len(found) == taken
    assert all(line.endswith(" by tun0") for line in found)


def test_the_route_of_the_own_bridge_is_no_overlap_but_any_other_is() -> None:
    assert machine.overlapping([DEFAULT, OWN], SITE, OWN["dev"]) == []
    assert machine.overlapping([DEFAULT, OWN], SITE, "br-ffffffffffff") == ["10.20.0.0/24 by br-0123456789ab"]
    assert machine.overlapping([OWN], SITE, None)


def test_the_addresses_of_one_network_are_named_once() -> None:
    routes = [{"type": "local", "dst": "10.20.0.9", "dev": "eth1"}, {"dst": "10.20.0.0/16", "dev": "eth1"}]
    assert machine.overlapping(routes, SITE, None) == ["10.20.0.0/16 by eth1"]


@given(st.integers(2, 32), st.integers(0, 2**32 - 1))
def test_overlap_is_a_shared_address(prefix: int, number: int) -> None:
    mask = 2**32 - 2 ** (32 - prefix)
    first, last = number & mask, (number & mask) + 2 ** (32 - prefix) - 1
    site_first = (10 << 24) + (20 << 16)
    dst = ".".join(str(byte) for byte in first.to_bytes(4)) + f"/{prefix}"
    found = machine.overlapping([{"dst": dst, "dev": "eth0"}], SITE, None)
    assert bool(found) == (first <= site_first + 255 and last >= site_first)


def test_the_bridge_of_a_network_is_named_by_its_id_or_by_its_option() -> None:
    assert machine.bridge_of({"Id": "0123456789abcdef", "Options": {}}) == "br-0123456789ab"
    named = {"Id": "0123456789abcdef", "Options": {"com.docker.network.bridge.name": "site0"}}
    assert machine.bridge_of(named) == "site0"


HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
VERSION_2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"
VERSION_1 = HYBRID.replace("cgroup2 /sys", "tmpfs /sys").replace("cgroup2 rw", "tmpfs rw")


def test_a_box_gets_the_unified_tree_of_a_hybrid_kernel() -> None:
    flags = machine.box_flags(HYBRID)
    assert "--volume=/sys/fs/cgroup/unified:/sys/fs/cgroup:rw" in flags
    assert "--cgroupns=host" in flags


def test_a_box_gets_a_namespace_and_no_mount_where_there_is_version_2_alone() -> None:
    flags = machine.box_flags(VERSION_2)
    assert "--cgroupns=private" in flags
    assert not any("/sys/fs/cgroup" in flag for flag in flags)


def test_no_box_without_cgroup_version_2() -> None:
    with pytest.raises(Problem, match="cgroup version 2"):
        machine.box_flags(VERSION_1)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}, "rootless"),
        ({"OperatingSystem": "Debian GNU/Linux 13", "SecurityOptions": None}, None),
    ],
)
def test_an_engine_that_cannot_hold_boxes_is_named(said: dict[str, Any], named: str | None) -> None:
    reason = machine.unfit({"DockerRootDir": "/", **said})
    assert (named in (reason or "")) if named else (reason is None)


def test_a_full_disk_is_named_even_where_the_folder_does_not_exist_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "NEEDED_DISK_GB", 0)
    machine.check_disk(tmp_path / "docker" / "data")
    monkeypatch.setattr(machine, "NEEDED_DISK_GB", 10**9)
    with pytest.raises(Problem, match=str(tmp_path)):
        machine.check_disk(tmp_path / "docker" / "data")


def test_an_engine_that_was_not_started_here_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "STATE", tmp_path)
    assert machine.stop_engine() is False
    # The number now belongs to a program that is no engine: process 1.
    (tmp_path / "dockerd.pid").write_text("1")
    assert machine.stop_engine() is False
    assert not (tmp_path / "dockerd.pid").exists()


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prepare a machine on which all is well and nothing is installed, and note what would be changed."""
    done: list[str] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "root", lambda *words: list(words))
    monkeypatch.setattr(machine, "engine", lambda: None)
    monkeypatch.setattr(machine, "check_disk", lambda _: None)
    monkeypatch.setattr(machine, "box_flags", list)
    monkeypatch.setattr(machine, "install", done.extend)
    monkeypatch.setattr(machine, "start_engine", lambda: done.append("start"))
    return done


def test_a_machine_without_an_engine_gets_one(changes: list[str]) -> None:
    machine.prepare()
    assert changes == ["ip", "ssh", "dockerd", "docker", "iptables", "start"]


def test_an_engine_that_answers_is_used(changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "engine", lambda: {"DockerRootDir": "/"})
    machine.prepare()
    assert changes == ["ip", "ssh"]


def refuse(*_: object) -> None:
    raise Problem("not here")


@pytest.mark.parametrize("check", ["root", "engine", "check_disk", "box_flags"])
def test_nothing_is_changed_where_any_check_fails(
    changes: list[str], monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    monkeypatch.setattr(machine, check, refuse)
    with pytest.raises(Problem, match="not here"):
        machine.prepare()
    assert changes == []


def test_another_system_is_refused(changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(Problem, match="Linux"):
        machine.prepare()
    assert changes == []
