"""The machines of a site, as containers at the inventory's addresses; each carries the label of its site."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import machine
from lab.console import Problem, run, say, step
from lab.images import tag_of
from lab.site import REPOSITORY, Host, Site

LABEL = "dpx.site"
CONTROL_PORT = 8099
BUNDLE_IN_BOX = "/var/lib/showsite/images"
STARTED_WITHIN_S = 60


def docker(*words: str, **options: Any) -> str:  # noqa: ANN401  handed through to run()
    """Call the Docker client."""
    return run([*machine.docker(), *words], **options)


def containers(site: Site) -> list[str]:
    """Names of the site's containers, running or not."""
    listed = docker("ps", "--all", "--filter", f"label={LABEL}={site.name}", "--format", "{{.Names}}")
    return sorted(listed.split())


def up(site: Site, bundle: Path) -> None:
    """Bring all boxes of the site up, each from its first second; what stands already stays."""
    machine.check_subnet(str(site.subnet), site.network)
    if containers(site) and not (site.state / "vault.yml").exists():
        say(f"  .. the boxes of {site.name} that stand belong to another checkout: they are built anew")
        down(site)
    make_access(site)
    standing = set(containers(site))
    make_network(site)
    if site.ops.name not in standing:
        with step(f"box {site.ops.name} at {site.ops.address}"):
            start_ops(site, bundle)
    for name, address, program, config in simulators(site):
        if name not in standing:
            start_simulator(site, name, address, program, config)


def down(site: Site) -> None:
    """Remove all boxes and the network of the site."""
    names = containers(site)
    if names:
        docker("rm", "--force", "--volumes", *names)
    networks = docker("network", "ls", "--filter", f"name=^{site.network}$", "--format", "{{.Name}}").split()
    if networks:
        docker("network", "rm", *networks)


def make_network(site: Site) -> None:
    """The site's own subnet, as a Docker network."""
    if docker("network", "ls", "--filter", f"name=^{site.network}$", "--quiet"):
        return
    gateway = str(next(site.subnet.hosts()))
    docker("network", "create", "--subnet", str(site.subnet), "--gateway", gateway, site.network)


def make_access(site: Site) -> None:
    """Key, secrets and connection settings of the rehearsal, in the site's state folder."""
    site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = site.state / "id_ed25519"
    if not key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"rehearsal {site.name}", "-f", key])
    known_hosts = site.state / "known_hosts"
    options = {"UserKnownHostsFile": known_hosts, "StrictHostKeyChecking": "accept-new", "LogLevel": "ERROR"}
    connection = {
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": " ".join(f"-o {name}={value}" for name, value in options.items()),
    }
    shell = site.state / "ssh"
    arguments = connection["ansible_ssh_common_args"]
    shell.write_text(f'#!/bin/sh\nexec ssh -i {key} {arguments} ops@{site.ops.address} "$@"\n')
    shell.chmod(0o700)
    (site.state / "connection.yml").write_text(yaml.safe_dump(connection))
    # A key of the simulated cloud is its address. Other secrets are random, as for a real site.
    cloud = f"http://{site.fleet_address}:{CONTROL_PORT}"
    program = [python(), str(REPOSITORY / "bin/make-secrets"), site.name]
    run([*program, "--out", str(site.state / "vault.yml"), "--gap", cloud])


def python() -> str:
    """The interpreter of the repository's own environment."""
    return str(REPOSITORY / ".venv/bin/python")


def vault(site: Site) -> dict[str, Any]:
    """Secrets of the rehearsal."""
    view = run([REPOSITORY / ".venv/bin/ansible-vault", "view", site.state / "vault.yml"], cwd=REPOSITORY)
    secrets: dict[str, Any] = yaml.safe_load(view)
    return secrets


def on_ops(site: Site, command: str) -> str:
    """Output of a command on the site host, over SSH: `docker exec` fails once the box runs Docker itself."""
    shell = site.state / "ssh"
    if not shell.exists():
        raise Problem(f"{site.name} has never been up here.")
    return run([shell, command])


def start_ops(site: Site, bundle: Path) -> None:
    """A bare Debian host with the archives of an offline site, and the rehearsal's key for its user."""
    name = site.ops.name
    mounts = ["--volume", f"{bundle}:{BUNDLE_IN_BOX}:ro"]
    start(site, name, site.ops.address, [*machine.box_flags(), *mounts], tag_of("box"))
    wait_for_systemd(name)
    public = (site.state / "id_ed25519.pub").read_text()
    write(name, "/home/ops/.ssh/authorized_keys", public)
    servers = name_servers()
    if servers:
        write(name, "/etc/resolv.conf", servers)
    (site.state / "known_hosts").unlink(missing_ok=True)


def start(site: Site, name: str, address: str, flags: Sequence[str], image: str, *command: str) -> None:
    """One container of the site."""
    place = [
        "--network",
        site.network,
        "--ip",
        address,
        "--hostname",
        name,
        "--label",
        f"{LABEL}={site.name}",
    ]
    docker("run", "--detach", "--name", name, *place, *flags, image, *command)


def name_servers() -> str:
    """
    Text of a resolv.conf with this machine's name servers that a container inside a box can reach.

    Docker's own and systemd's listen on a loopback address; the latter keeps the real ones in a second file.
    """
    for path in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        usable = [line for line in lines if line.startswith("nameserver") and " 127." not in line]
        if usable:
            return "\n".join([*usable, ""])
    return ""


def write(name: str, path: str, text: str) -> None:
    """Write a file inside a container, in place: owner and mode stay."""
    docker("exec", name, "sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path)


def wait_for_systemd(name: str) -> None:
    """Wait until a box has started all its units."""
    words = [*machine.docker(), "exec", name, "systemctl", "is-system-running", "--wait"]
    deadline = time.monotonic() + STARTED_WITHIN_S
    said = ""
    while time.monotonic() < deadline:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=STARTED_WITHIN_S)
        said = done.stdout.strip() or done.stderr.strip()
        if said == "running":
            return
        time.sleep(0.5)
    raise Problem(
        f"The box {name} is {said!r} after {STARTED_WITHIN_S} s: docker exec {name} systemctl --failed"
    )


def simulators(site: Site) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Name, address, program and configuration of each simulator of the site."""
    passwords = vault(site)["vault_mqtt_passwords"]

    def gateway(host: Host) -> dict[str, Any]:
        broker = {"host": site.ops.address, "user": host.name, "password": passwords[host.name]}
        return {"site": site.name, "gateway": host.name, "broker": broker}

    # As set up by hand after unpacking: raw adverts on, scanning without pauses.
    bt = {"pubadvdata": True, "adaptivescan": False, "bleconnect": False}
    boards = [
        (host.name, host.address, "openmqttgateway", gateway(host) | {"bt": bt, "web_port": 80})
        for host in site.of_kind("esp32")
    ]
    nucs = [(host.name, host.address, "theengs", gateway(host)) for host in site.of_kind("theengs")]
    radios = [{"host": host.address} for host in site.of_kind("esp32", "theengs")]
    fleet = {"sensors": site.sensors, "gateways": radios}
    return [*boards, *nucs, (f"{site.name}-fleet", site.fleet_address, "fleet", fleet)]


def start_simulator(site: Site, name: str, address: str, program: str, config: dict[str, Any]) -> None:
    """One simulated machine; its configuration, which holds a password, is readable by its user alone."""
    folder = site.state / name
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config, indent=1))
    path.chmod(0o600)
    flags = ["--restart=unless-stopped", "--user", str(os.getuid()), "--volume", f"{folder}:/config:ro"]
    command = ["python", "-m", f"lab.simulators.{program}", "--config", "/config/config.json"]
    start(site, name, address, flags, tag_of("simulators"), *command)
