# ruff: noqa: INP001  a script, no package
"""
What does the platform cost the site host? Memory and CPU of each container, idle and under load.

    PYTHONPATH=lab/src .venv/bin/python lab/bench/footprint.py coachella       about a minute and a half

Taken from /proc of the containers' processes, because a box has no memory controller and `docker stats` shows
nothing there. RSS counts a page shared by two processes twice, PSS divides it. `engine` is Docker itself with
its health checks. Idle: no sensor speaks. Needs a rehearsed site; made-up devices are deleted at the end.
"""

import json
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from lab import boxes
from lab.console import say
from lab.control import set_faults
from lab.load import Adverts, Publisher, forget, steadily
from lab.site import Site, from_arguments

SECONDS = 30.0
SETTLE_S = 5.0
ADVERTS_A_SECOND = 300.0

# Runs on the site host as root: container -> [RSS kB, PSS kB, CPU seconds], of all its processes.
# `docker top` shows nothing in a box, so it is the container's first process and all that descend from it.
LOOK = """
import json, os, subprocess
def out(*words): return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
def stat(pid):
    try: name, _, rest = open(f"/proc/{pid}/stat").read().partition("(")[2].rpartition(")")
    except OSError: return "", [0] * 50
    return name, [0, 0] + [int(n) for n in rest.split()[1:]]
processes = {int(p): stat(p) for p in os.listdir("/proc") if p.isdigit()}
def family(pid): return [pid] + [d for p, (_, s) in processes.items() if s[2] == pid for d in family(p)]
names = out("docker", "ps", "--format", "{{.Names}}")
groups = {n: family(int(*out("docker", "inspect", "--format", "{{.State.Pid}}", n))) for n in names}
engine = ("dockerd", "containerd", "docker-proxy")
groups["engine"] = [p for p, (name, _) in processes.items() if name.startswith(engine)]
def cost(pid, with_dead_children):
    try: rows = [l.split() for l in open(f"/proc/{pid}/smaps_rollup")]
    except OSError: return [0, 0, 0.0]
    kb = {r[0]: int(r[1]) for r in rows if r[0] in ("Rss:", "Pss:")}
    ticks = sum(processes[pid][1][12:16 if with_dead_children else 14])
    return [kb["Rss:"], kb["Pss:"], ticks / os.sysconf("SC_CLK_TCK")]
looks = {n: [cost(p, n == "engine") for p in pids] for n, pids in groups.items()}
print(json.dumps({n: [sum(c) for c in zip(*rows)] for n, rows in looks.items()}))
"""


@dataclass
class Cost:
    """One container over the time measured."""

    rss_mb: float
    pss_mb: float
    cpu_s: float


def look(site: Site) -> dict[str, list[float]]:
    """Ask the site host."""
    answer: dict[str, list[float]] = json.loads(boxes.on_ops(site, f"sudo python3 -c {shlex.quote(LOOK)}"))
    return answer


def over_time(site: Site) -> dict[str, Cost]:
    """Memory at the end of half a minute, CPU time used in it."""
    time.sleep(SETTLE_S)
    before = look(site)
    time.sleep(SECONDS)
    after = look(site)
    return {n: Cost(r[0] / 1024, r[1] / 1024, r[2] - before[n][2]) for n, r in after.items()}


def measure(site: Site) -> None:
    """Look twice and print one table."""
    secrets = boxes.vault(site)
    gateways = [host.name for host in site.of_kind("esp32", "theengs")]
    made_up = [f"0ADE3000000{digit}" for digit in range(10)]
    since = datetime.now(UTC).isoformat()
    set_faults(site.fleet_address, silent=True)
    try:
        idle = over_time(site)
        with ExitStack() as stack:
            for name in gateways:
                publisher = Publisher(site, name, secrets["vault_mqtt_passwords"][name])
                stack.callback(publisher.close)
                adverts = Adverts(publisher, site, name, made_up)
                stack.enter_context(steadily(ADVERTS_A_SECOND / len(gateways), adverts.send))
            busy = over_time(site)
    finally:
        set_faults(site.fleet_address, silent=False)
    forget(site, secrets["vault_influxdb_operator_token"], made_up, since)
    show(idle, busy)


def show(idle: dict[str, Cost], busy: dict[str, Cost]) -> None:
    """Print one line a container and the sum."""
    say(f"{'':12} {'idle':>28}   {f'{ADVERTS_A_SECOND:.0f} adverts/s':>28}")
    say(f"{'':12}" + "   ".join([f" {'RSS MiB':>8} {'PSS MiB':>8} {'CPU %':>9}"] * 2))
    for name in sorted(idle):
        say(f"{name:12}{line(idle[name])}   {line(busy[name])}")
    say(f"{'sum':12}{line(total(idle))}   {line(total(busy))}")
    say(f"CPU: % of one core over {SECONDS:.0f} s; memory at their end.")


def total(costs: dict[str, Cost]) -> Cost:
    """All containers together."""
    each = costs.values()
    return Cost(sum(c.rss_mb for c in each), sum(c.pss_mb for c in each), sum(c.cpu_s for c in each))


def line(cost: Cost) -> str:
    """Three columns."""
    return f" {cost.rss_mb:8.1f} {cost.pss_mb:8.1f} {cost.cpu_s / SECONDS * 100:9.2f}"


def main() -> None:
    """Read the command line and run."""
    measure(from_arguments(__doc__))


if __name__ == "__main__":
    main()
