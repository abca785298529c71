#!/usr/bin/python
"""What a run must know of a site host before it changes anything, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Facts of a site host for the preflight checks
description:
  - Sets the fact C(showsite_host). Changes nothing.
options:
  neighbours:
    description: Other machines of the site, name to address and TCP port; whether each answers is reported.
    type: dict
    default: {}
  directory: {description: Folder of the deployed services., type: path, required: true}
  address: {description: Address that the services will listen on., type: str, required: true}
author: dpx-showsite-ops
"""

import importlib.util
import os
import platform
import re
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

LISTEN = "0A"  # state of a listening socket in /proc/net/tcp
PROBE_SECONDS = 1.0


def listening(table: str) -> set[int]:
    """Ports of the listening sockets in a text of the form of /proc/net/tcp."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}


def in_arp_table(address: str, table: str) -> bool:
    """Whether a text of the form of /proc/net/arp has a complete entry (flag 2) for an address."""
    rows = (line.split() for line in table.splitlines()[1:])
    return any(row[0] == address and int(row[2], 16) & 2 for row in rows)


def answers(address: str, port: int) -> bool:
    """Whether a machine is there: it accepts or refuses, or at least answers ARP behind its firewall."""
    try:
        socket.create_connection((address, port), timeout=PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return in_arp_table(address, Path("/proc/net/arp").read_text())
    return True


def silent(neighbours: dict[str, list[Any]]) -> list[str]:
    """Names of the neighbours that do not answer, all asked at once."""
    if not neighbours:
        return []
    with ThreadPoolExecutor(len(neighbours)) as pool:
        replies = pool.map(lambda target: answers(str(target[0]), int(target[1])), neighbours.values())
    return [name for name, replied in zip(neighbours, replies, strict=True) if not replied]


def own_address(address: str, table: str) -> bool:
    """
    Whether this host has an address, by a text of the form of /proc/net/fib_trie.

    Not by binding to it: that succeeds for any address where net.ipv4.ip_nonlocal_bind is set.
    """
    return re.search(rf"-- {re.escape(address)}\n\s+/32 host LOCAL", table) is not None


def taken_ports() -> list[int]:
    """TCP ports that something listens on, by IPv4 or IPv6."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    return sorted(set().union(*(listening(table.read_text()) for table in tables if table.exists())))


def facts(params: dict[str, Any], address: str) -> dict[str, Any]:
    """Sizes in bytes, `time` in seconds since 1970."""
    release = platform.freedesktop_os_release()
    services = Path(params["directory"])
    return {
        "os": release.get("ID", "unknown"),
        "os_version": release.get("VERSION_ID", "0"),
        "architecture": platform.machine(),
        "root": os.geteuid() == 0,
        "disk_free": shutil.disk_usage("/var/lib").free,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "time": time.time(),
        "has_address": own_address(address, Path("/proc/net/fib_trie").read_text()),
        "ports": taken_ports(),
        "services": sorted(path.parent.name for path in services.glob("*/compose.yml")),
        "has_docker": shutil.which("docker") is not None,
        "can_check_apt": importlib.util.find_spec("apt") is not None,
        "silent_neighbours": silent(params["neighbours"]),
    }


def main() -> None:
    """Entry point for Ansible."""
    module = AnsibleModule(
        argument_spec={
            "neighbours": {"type": "dict", "default": {}},
            "directory": {"type": "path", "required": True},
            "address": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    found = facts(module.params, module.params["address"])
    module.exit_json(changed=False, ansible_facts={"showsite_host": found})


if __name__ == "__main__":
    main()
