"""Everything that can be known to be wrong before a run changes anything, said in one go."""

from __future__ import annotations

import ipaddress
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

REPOSITORY = Path(__file__).resolve().parents[2]
GIB = 2**30
DISK_NEEDED = 10 * GIB
DISK_NEEDED_WHEN_DEPLOYED = 2 * GIB
MEMORY_NEEDED = int(1.8 * GIB)
CLOCK_TOLERANCE = 60.0
OLDEST_DEBIAN = 13
# Service and the TCP port that it publishes.
PORTS = {"mosquitto": 1883, "influxdb": 8086, "grafana": 3000, "govee2mqtt": 8056}
# Kind of machine and the TCP port on which one that is up answers.
NEIGHBOUR_PORTS = {"esp32": 80, "theengs": 22, "m4300": 22}
# Published default secrets of earlier installations: anybody can look them up.
KNOWN_SECRETS = {
    "influxpass123",
    "grafanapass123",
    "my-super-secret-token",
    "public",
    "your_password",
    "admin",
}
SITE_VARIABLES = {"site_name", "site_timezone", "site_subnet", "temperature_unit", "sensors"}
MQTT_SERVICES = ["decoder", "telegraf", "govee2mqtt", "health", "crew"]

Problems = list[str]


def host_problems(host: dict[str, Any], name: str, address: str, skew: float) -> Problems:
    """What is wrong with a host (facts of `host_facts`); `skew` in seconds, positive = host is ahead."""
    found = []
    version = int(str(host["os_version"]).partition(".")[0] or 0)
    if host["os"] != "debian" or version < OLDEST_DEBIAN:
        found.append(f"{name} runs {host['os']} {host['os_version']}; install Debian {OLDEST_DEBIAN}.")
    if not host["root"]:
        found.append(f"The login on {name} has no root rights; give it sudo without a password.")
    needed = DISK_NEEDED_WHEN_DEPLOYED if host["services"] else DISK_NEEDED
    if host["disk_free"] < needed:
        free = host["disk_free"] / GIB
        found.append(f"{name} has {free:.1f} GB free in /var/lib, {needed // GIB} GB are needed; make room.")
    if host["memory"] < MEMORY_NEEDED:
        found.append(f"{name} has {host['memory'] / GIB:.1f} GB of memory, 2 GB are needed; give it more.")
    if abs(skew) > CLOCK_TOLERANCE:
        way = "ahead of" if skew > 0 else "behind"
        found.append(
            f"The clock of {name} is {abs(skew):.0f} s {way} this machine's; set the wrong one, "
            f"on the host with: sudo date --set @{time.time():.0f}"
        )
    if not host["has_address"]:
        found.append(
            f"{name} does not have the address {address}; correct ansible_host or the host's network."
        )
    for service, port in PORTS.items():
        if port in host["ports"] and service not in host["services"]:
            found.append(
                f"Port {port} on {name} is taken, {service} needs it; see: sudo ss -ltnp sport = :{port}"
            )
    return found


def site_problems(site: dict[str, Any], address: str) -> Problems:
    """What is wrong with a site's variables (group_vars/<site>/main.yml)."""
    missing = sorted(SITE_VARIABLES - {key for key in SITE_VARIABLES if site.get(key) is not None})
    if missing:
        names = ", ".join(missing)
        return [f"group_vars of this site lack {names}; docs/adding-a-site.md lists what a site needs."]
    found = []
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", site["site_name"]):
        found.append(
            f"site_name {site['site_name']!r}: use small letters, digits and -, it becomes an MQTT topic."
        )
    if site["temperature_unit"] not in {"F", "C"}:
        found.append(f"temperature_unit {site['temperature_unit']!r}: write F or C.")
    try:
        if ipaddress.ip_address(address) not in ipaddress.ip_network(site["site_subnet"]):
            found.append(
                f"The host's address {address} is not in site_subnet {site['site_subnet']}; correct one."
            )
    except ValueError as error:
        found.append(f"site_subnet: {error}; write it as 10.20.0.0/24.")
    return found + sensor_problems(site["sensors"])


def sensor_problems(sensors: list[dict[str, Any]]) -> Problems:
    """What is wrong with the list of sensors."""
    found = []
    for sensor in sensors:
        label = sensor.get("name") or sensor.get("id") or sensor
        lacking = [key for key in ("id", "name", "room", "model") if not sensor.get(key)]
        if lacking:
            found.append(f"sensors: {label} lacks {', '.join(lacking)}.")
        elif not re.fullmatch(r"[0-9A-F]{12}", str(sensor["id"])):
            found.append(
                f"sensors: {label} has the id {sensor['id']!r}; write its MAC as 12 capital hex digits."
            )
    for key in ("id", "name", "cloud_id"):
        counts = Counter(str(sensor[key]) for sensor in sensors if sensor.get(key))
        twice = [value for value, count in counts.items() if count > 1]
        found += [f"sensors: {key} {value} is there twice; each sensor needs its own." for value in twice]
    return found


def secret_problems(variables: dict[str, Any], site: str, gateways: list[str]) -> Problems:
    """What is wrong with the secrets; never says a secret's value."""
    remedy = f"run: make secrets SITE={site}"
    names = ["vault_influxdb_operator_token", "vault_influxdb_admin_password", "vault_grafana_admin_password"]
    absent = [
        name for name in [*names, "vault_mqtt_passwords", "vault_govee_api_key"] if not variables.get(name)
    ]
    if absent:
        return [f"Secrets are missing ({', '.join(absent)}); {remedy}"]
    passwords = variables["vault_mqtt_passwords"]
    lacking = [user for user in [*MQTT_SERVICES, *gateways] if not passwords.get(user)]
    found = [f"No MQTT password for {', '.join(lacking)}; {remedy}"] if lacking else []
    secrets = {name: str(variables[name]) for name in names} | {
        f"MQTT {k}": str(v) for k, v in passwords.items()
    }
    weak = [name for name, value in secrets.items() if value in KNOWN_SECRETS or len(value) < 12]  # noqa: PLR2004
    if weak:
        found.append(f"{', '.join(weak)}: a published or short secret; remove it from the vault and {remedy}")
    return found


def variable_problems(variables: list[str], specs: dict[str, set[str]]) -> Problems:
    """Variables that look like a role's but are no option of it: mostly a typing error."""
    found = []
    for role, options in specs.items():
        for name in variables:
            if name.startswith(f"{role}_") and name not in options and not owned_by_longer(name, role, specs):
                known = ", ".join(sorted(options)) or "none"
                found.append(
                    f"{name} is no variable of the role {role} (it has: {known}); correct or remove it."
                )
    return found


def owned_by_longer(name: str, role: str, specs: dict[str, set[str]]) -> bool:
    """Whether another role with a longer name has this variable."""
    return any(name in options for other, options in specs.items() if other != role)


def role_specs() -> dict[str, set[str]]:
    """Options of every role, by role."""
    specs = {}
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        main = yaml.safe_load(path.read_text())["argument_specs"]["main"]
        specs[path.parents[1].name] = set(main["options"])
    return specs


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    """`preflight`: reads facts from the host, judges them and the site's variables on the controller."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say every problem at once; change nothing."""
        super().run(tmp, task_vars)
        variables = {name: self._value(name, task_vars or {}) for name in self._wanted(task_vars or {})}
        site, host = variables["site_name"], variables["inventory_hostname"]
        address = str(variables["ansible_host"])
        arguments = {
            "directory": variables["showsite_dir"],
            "address": address,
            "neighbours": self._neighbours(variables, site),
        }
        asked = time.time()
        result: dict[str, Any] = self._execute_module("host_facts", arguments, task_vars=task_vars)
        if result.get("failed"):
            return result
        facts = result["ansible_facts"]["showsite_host"]
        skew = facts["time"] - (asked + time.time()) / 2
        groups = variables["groups"]
        gateways = [
            h for h in groups.get(site, []) if h in groups.get("esp32", []) + groups.get("theengs", [])
        ]
        found = [
            *site_problems(variables, address),
            *secret_problems(variables, site, gateways),
            *variable_problems(sorted(task_vars or {}), role_specs()),
            *host_problems(facts, host, address, skew),
        ]
        if found:
            lines = "\n".join(f"  - {problem}" for problem in found)
            return result | {
                "failed": True,
                "msg": f"Nothing was changed. Before {site} can be set up:\n{lines}",
            }
        return result

    @staticmethod
    def _wanted(task_vars: dict[str, Any]) -> list[str]:
        """Names of the variables that are judged."""
        fixed = ["inventory_hostname", "ansible_host", "groups", "hostvars", "showsite_dir"]
        secrets = [name for name in task_vars if name.startswith("vault_")]
        return [*fixed, *sorted(SITE_VARIABLES), *secrets]

    def _value(self, name: str, task_vars: dict[str, Any]) -> Any:  # noqa: ANN401  variables have any type
        """Value of a variable, templated; None where it is not set."""
        return self._templar.template(task_vars[name]) if name in task_vars else None

    @staticmethod
    def _neighbours(variables: dict[str, Any], site: str) -> dict[str, list[Any]]:
        """Other machines of the site with address and port."""
        groups, hostvars = variables["groups"], variables["hostvars"]
        return {
            host: [hostvars[host]["ansible_host"], port]
            for kind, port in NEIGHBOUR_PORTS.items()
            for host in groups.get(kind, [])
            if host in groups.get(site, [])
        }
