"""
Makes this machine able to run a rehearsal: packages, a Docker engine, addresses that nothing else uses.

Everything is checked before anything is changed, and each failure is one sentence that says what to do.
"""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lab.console import Problem, run, step

STATE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpx-showsite-ops"
NEEDED_DISK_GB = 10
ENGINE_WAIT_S = 60

# program -> the Debian packages that may bring it, best first
_ENGINE_PROGRAMS = {
    "dockerd": ["docker.io"],
    "docker": ["docker-cli", "docker.io"],
    "iptables": ["iptables"],
}
_TOOLS = {"ip": ["iproute2"], "ssh": ["openssh-client"]}
# Where programs stand that a user's PATH may leave out: root's, and those of Go's and Rust's own installers.
_MORE_PLACES = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin", str(Path.home() / ".cargo/bin")]
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES])
_one_apt = threading.Lock()

# Real systemd and a nested Docker want these. SYS_PTRACE: for health checks of containers not run as root.
_BOX_FLAGS = [
    "--restart=always",  # `systemctl reboot` ends the container
    *("--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    "--security-opt=systempaths=unconfined",
    *("--tmpfs=/run", "--tmpfs=/run/lock"),
    "--volume=/var/lib/docker",  # overlay does not stand on overlay
]


def prepare() -> None:
    """Check this machine, then install what is missing and start a Docker engine if none answers."""
    if not sys.platform.startswith("linux"):
        raise Problem("A rehearsal needs Linux (Debian or Ubuntu, also as a virtual machine).")
    root()
    info = engine()
    if info and (reason := unfit(info)):
        raise Problem(reason)
    check_disk(Path(info["DockerRootDir"] if info else "/var/lib/docker"))
    box_flags()  # raises where no box can run
    install({**_TOOLS, **({} if info else _ENGINE_PROGRAMS)})
    if info is None:
        start_engine()


def root(*command: str) -> list[str]:
    """Return the command as it runs with root's rights on this machine: as it is, or by sudo."""
    return [*_root_prefix(), *command]


@cache
def _root_prefix() -> tuple[str, ...]:
    if os.geteuid() == 0:
        return ()
    if not shutil.which("sudo"):
        raise Problem("Root rights are needed and sudo is not installed: run this as root.")
    # -v asks for the password once, where a person can answer.
    check = ["sudo", "-v"] if sys.stdin.isatty() else ["sudo", "-n", "true"]
    if subprocess.run(check, check=False, capture_output=not sys.stdin.isatty()).returncode:
        raise Problem("Root rights are needed and sudo refuses: run this as root or allow this user sudo.")
    return ("sudo",)


def has(thing: str) -> bool:
    """Say whether this machine has a program, or a file if `thing` is a whole path."""
    return Path(thing).exists() if thing.startswith("/") else bool(shutil.which(thing, path=PATH))


def install(things: Mapping[str, Sequence[str]]) -> None:
    """Install by apt what is missing of `things`: program or file -> packages that bring it, best first."""
    with _one_apt:
        missing = {thing: packages for thing, packages in things.items() if not has(thing)}
        if not missing:
            return
        if not has("apt-get"):
            raise Problem(
                f"{', '.join(missing)} missing, and no apt-get: use Debian or Ubuntu, or install it."
            )
        with step(f"install {', '.join(missing)}"):
            run(root("apt-get", "update"), hint="Check this machine's internet and apt sources.")
            wanted = {_package_for(thing, packages) for thing, packages in missing.items()}
            words = [
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "--no-install-recommends",
            ]
            run(root(*words, *sorted(wanted)))


def _package_for(thing: str, packages: Sequence[str]) -> str:
    """Return the first of `packages` that apt can install here."""
    for package in packages:
        shown = run(["apt-cache", "policy", package])
        if "Candidate:" in shown and "Candidate: (none)" not in shown:
            return package
    raise Problem(f"apt knows no package for {thing} (looked for {', '.join(packages)}).")


# --- Docker engine ---------------------------------------------------------------------------------------


@cache
def docker() -> list[str]:
    """Return the words that call the Docker client: by root's rights only if this user may not use it."""
    if os.geteuid() and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
        return root("docker")
    return ["docker"]


def engine() -> dict[str, Any] | None:
    """Return what the Docker engine says of itself, or None if none answers."""
    if not has("docker"):
        return None
    words = [*docker(), "info", "--format", "{{json .}}"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    info: dict[str, Any] = json.loads(done.stdout or "{}") if done.returncode == 0 else {}
    return info if info.get("DockerRootDir") else None


def unfit(info: Mapping[str, Any]) -> str | None:
    """Say why a rehearsal cannot use the engine that gave this `docker info`, or None if it can."""
    if "Docker Desktop" in str(info.get("OperatingSystem")):
        return "Docker Desktop hides its boxes from this machine: switch to the Linux engine (docker.io)."
    if any("rootless" in option for option in info.get("SecurityOptions") or []):
        return "A rootless Docker engine cannot give a box its own systemd: switch to the ordinary engine."
    if not Path(str(info["DockerRootDir"])).is_dir() and os.geteuid() == 0:
        return "The Docker engine runs on another machine: unset DOCKER_HOST or `docker context use default`."
    return None


def check_disk(path: Path) -> None:
    """Raise a Problem if less than NEEDED_DISK_GB are free where `path` is, or will be."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 1e9
    if free < NEEDED_DISK_GB:
        raise Problem(
            f"{free:.1f} GB free at {path}, where Docker keeps its data, and {NEEDED_DISK_GB} GB are needed: "
            "make room (`docker system df` shows what Docker holds)."
        )


def start_engine() -> None:
    """Start the installed Docker engine and wait until it answers."""
    with step("start the Docker engine"):
        if Path("/run/systemd/system").is_dir():
            run(root("systemctl", "start", "docker"), hint="`journalctl -u docker` says why.")
            _wait_for_engine(None, Path("/dev/null"))
            return
        log = STATE / "dockerd.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            # A session of its own: it outlives this command and its terminal.
            process = subprocess.Popen(
                root("env", f"PATH={PATH}", "dockerd"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _wait_for_engine(process, log)
        pid = Path("/var/run/docker.pid").read_text().strip()  # dockerd's own, also below sudo
        _run_file().write_text(pid)


def _wait_for_engine(process: subprocess.Popen[bytes] | None, log: Path) -> None:
    """Wait until the engine answers; one that does not is ended again."""
    deadline = time.monotonic() + ENGINE_WAIT_S
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        docker.cache_clear()
        if engine():
            return
        time.sleep(0.5)
    if process is not None and process.poll() is None:
        run(root("kill", str(process.pid)))
        process.wait()
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if process else ""
    raise Problem(f"The Docker engine does not answer. {last}\nAll of it: {log if process else 'journalctl'}")


def stop_engine() -> bool:
    """End the Docker engine if a rehearsal started it, and say whether it did."""
    file = _run_file()
    if not file.exists():
        return False
    pid = file.read_text().strip()
    file.unlink()
    command = Path("/proc") / pid / "comm"
    if not (command.exists() and command.read_text().strip() == "dockerd"):
        return False  # gone already; the number may belong to another program by now
    run(root("kill", pid))
    while command.exists():
        time.sleep(0.2)
    return True


def _run_file() -> Path:
    return STATE / "dockerd.pid"


# --- addresses -------------------------------------------------------------------------------------------


def check_subnet(cidr: str, network: str) -> None:
    """Raise a Problem if a site's subnet overlaps a route other than that of its Docker `network`."""
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]))
    taken = overlapping(routes, cidr, _bridge(network))
    if taken:
        raise Problem(
            f"The site's subnet {cidr} overlaps what this machine already reaches: {'; '.join(taken)}. "
            "Leave that network (VPN?) or rehearse on another machine."
        )


def overlapping(routes: Iterable[Mapping[str, Any]], cidr: str, own_device: str | None) -> list[str]:
    """Name each route (of `ip -j route`) that overlaps `cidr`, but for `own_device`: the widest alone."""
    site = ipaddress.IPv4Network(cidr)
    found: dict[ipaddress.IPv4Network, str] = {}
    others = [route for route in routes if route["dst"] != "default" and route.get("dev") != own_device]
    nets = [(ipaddress.IPv4Network(route["dst"], strict=False), route.get("dev", "?")) for route in others]
    for net, device in sorted(nets, key=lambda pair: pair[0].prefixlen):
        # 0.0.0.0/1 and 128.0.0.0/1 are how a VPN writes "default".
        if net.prefixlen > 1 and net.overlaps(site) and not any(net.subnet_of(wider) for wider in found):
            found[net] = f"{net} by {device}"
    return list(found.values())


def _bridge(network: str) -> str | None:
    """Return the device of a Docker network, or None if there is no such network."""
    words = [*docker(), "network", "inspect", network]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    return bridge_of(json.loads(done.stdout)[0]) if done.returncode == 0 else None


def bridge_of(network: Mapping[str, Any]) -> str:
    """Return the device name of one entry of `docker network inspect`."""
    options = network.get("Options") or {}
    return str(options.get("com.docker.network.bridge.name") or f"br-{network['Id'][:12]}")


# --- boxes -----------------------------------------------------------------------------------------------


def box_flags(mounts: str | None = None) -> list[str]:
    """
    Return the `docker run` flags that let systemd and Docker run in a box on this kernel.

    `mounts` is the text of /proc/mounts. With both cgroup trees ("hybrid") a box sees the version 2 tree, in
    which Docker gives it a branch of its own; with version 2 alone it gets a namespace of its own.
    """
    lines = (mounts if mounts is not None else Path("/proc/mounts").read_text()).splitlines()
    trees = {line.split()[1] for line in lines if line.split()[2:3] == ["cgroup2"]}
    if "/sys/fs/cgroup" in trees:
        return [*_BOX_FLAGS, "--cgroupns=private"]
    if "/sys/fs/cgroup/unified" in trees:
        return [*_BOX_FLAGS, "--cgroupns=host", "--volume=/sys/fs/cgroup/unified:/sys/fs/cgroup:rw"]
    raise Problem("This kernel has no cgroup version 2, which systemd needs: boot Debian 11 or newer.")
