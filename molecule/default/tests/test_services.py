"""The site host after one run: services, ports, secrets, and a second look that changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scenario import Client, playbook

from lab.site import Site

SERVICES = ["mosquitto", "influxdb", "decoder", "telegraf", "grafana", "govee2mqtt"]
# Service, port, and whether the site's network reaches it; everything else is closed.
PORTS = {1883: True, 8086: True, 3000: True, 8056: False}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_runs_healthy_rotates_its_logs_and_comes_back(host: Any, name: str) -> None:
    health_status = "{{with .State.Health}}{{.Status}}{{else}}none{{end}}"
    limits = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Config}}"
    template = f"{{{{.State.Status}}}} {health_status} {limits} {{{{.RestartCount}}}}"
    shown = host.check_output("docker inspect --format %s %s", template, name)
    status, health, restart = shown.split()[:3]
    assert (status, restart) == ("running", "unless-stopped")
    # govee2mqtt's image has no shell for a health check.
    assert health == ("none" if name == "govee2mqtt" else "healthy")
    assert "max-size:10m" in shown
    assert shown.endswith(" 0"), (
        f"{name} has restarted: {host.check_output('docker logs --tail 20 %s', name)}"
    )


def test_ports_are_open_on_the_sites_address_alone(host: Any, site: Site) -> None:
    rows = host.check_output("ss -Hltn").splitlines()
    listening = {row.split()[3] for row in rows}
    for port, on_site in PORTS.items():
        wanted = f"{site.ops.address if on_site else '127.0.0.1'}:{port}"
        assert {entry for entry in listening if entry.endswith(f":{port}")} == {wanted}


def test_no_secret_is_readable_by_other_users(host: Any, vault: dict[str, Any]) -> None:
    secrets = [*vault["vault_mqtt_passwords"].values(), *(v for v in vault.values() if isinstance(v, str))]
    find = "find /opt/showsite /etc /var/lib/showsite -xdev -type f -perm /044 -size -1024k"
    assert len(host.check_output(find).split()) > 50, "the walk saw the site's files"
    readable = host.run(f"{find} -exec cat {{}} +").stdout_bytes
    assert [secret for secret in secrets if secret.encode() in readable] == []


def test_no_secret_is_on_a_command_line_or_in_the_journal(host: Any, vault: dict[str, Any]) -> None:
    secrets = [*vault["vault_mqtt_passwords"].values(), vault["vault_influxdb_operator_token"]]
    commands = host.check_output("ps axww -o args")
    journal = host.check_output("journalctl --no-pager --boot")
    assert "ansible" in journal, "the journal holds Ansible's own lines"
    for secret in secrets:
        assert secret not in commands
        assert secret not in journal


def test_logs_hold_no_errors(host: Any) -> None:
    for name in SERVICES:
        log = host.run("docker logs %s 2>&1", name).stdout
        bad = [line for line in log.splitlines() if " E! " in line or "level=error" in line.lower()]
        assert bad == [], f"{name}: {bad[:5]}"


def test_a_look_at_a_finished_site_finds_nothing_to_do(site: Site) -> None:
    output, figures = playbook(site, "--check", "--diff")
    assert (figures["changed"], figures["failed"], figures["unreachable"]) == (0, 0, 0), output[-3000:]


def test_a_misspelt_site_ends_with_an_error_and_touches_nothing(site: Site) -> None:
    output, figures = playbook(site, "--limit", "stagecoch")
    assert figures == {}
    assert "Could not match supplied host pattern" in output


def test_a_wrong_setting_is_named_before_anything_changes(site: Site) -> None:
    output, figures = playbook(site, "--extra-vars", '{"influxdb_retention": 5}')
    assert figures["failed"] == 1
    assert figures["changed"] == 0
    assert "influxdb_retention is no variable of the role influxdb" in output


def test_a_file_that_its_program_refuses_never_lands(site: Site, host: Any) -> None:
    before = host.check_output("sha256sum /opt/showsite/telegraf/config/telegraf.conf")
    output, figures = playbook(site, "--tags", "telegraf", "--extra-vars", '{"__telegraf_flush": "soon"}')
    assert figures["failed"] == 1
    assert "telegraf refuses its new files, nothing was changed" in output
    assert host.check_output("sha256sum /opt/showsite/telegraf/config/telegraf.conf") == before
    assert host.check_output("docker inspect --format '{{.State.Health.Status}}' telegraf") == "healthy"


def test_the_timer_for_the_map_is_armed(host: Any) -> None:
    assert host.service("device-map.timer").is_running
    assert host.service("device-map.timer").is_enabled
    assert host.run("systemctl start device-map.service").rc == 0, host.check_output(
        "journalctl -u device-map"
    )


def test_a_feature_without_its_key_is_taken_away_and_comes_back(site: Site, host: Any) -> None:
    output, figures = playbook(
        site, "--tags", "govee2mqtt", "--extra-vars", '{"vault_govee_api_key": "FILL-ME"}'
    )
    assert figures["failed"] == 0, output[-2000:]
    assert "Off: Govee cloud" in output
    assert "govee2mqtt" not in host.check_output("docker ps --all --format '{{.Names}}'").split()
    output, figures = playbook(site, "--tags", "govee2mqtt")
    assert figures["failed"] == 0, output[-2000:]
    assert host.check_output("docker inspect --format '{{.State.Status}}' govee2mqtt") == "running"


def test_a_changed_account_is_reloaded_and_the_broker_not_restarted(
    site: Site, host: Any, vault: dict[str, Any], client: Callable[..., Client], tmp_path: Path
) -> None:
    ask = "docker inspect --format '{{.State.StartedAt}}' mosquitto"
    before = host.check_output(ask)
    now, other = vault["vault_mqtt_passwords"]["crew"], "another-password-of-the-crew"
    accounts = vault["vault_mqtt_passwords"] | {"crew": other}
    (tmp_path / "accounts.json").write_text(json.dumps({"vault_mqtt_passwords": accounts}))
    there = ("--extra-vars", f"@{tmp_path}/accounts.json"), other, now
    and_back = (), now, other
    for extra, right, wrong in (there, and_back):
        output, figures = playbook(site, "--tags", "mosquitto", *extra)
        assert (figures["changed"], figures["failed"]) == (2, 0), output[-2000:]
        assert "Not authorized" in client("crew", password=wrong).refused
        assert client("crew", password=right).refused == ""
    assert host.check_output(ask) == before
