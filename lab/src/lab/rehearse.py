"""Build a site in boxes on this machine and run the real site.yml on it."""

import subprocess
import sys
import time

from lab import boxes, images, machine, readings
from lab.console import Problem, say, step
from lab.site import REPOSITORY, Site

READINGS_WITHIN_S = 60
BUNDLE = machine.STATE / "bundle" / "images.tar"


def prepare(site: Site) -> list[images.ImageReport]:
    """Everything that a rehearsal of the site needs on this machine, but for the site itself."""
    machine.prepare()
    machine.check_subnet(str(site.subnet), site.network)
    reports = images.ensure()
    images.bundle(BUNDLE)
    return reports


def bring_up(site: Site) -> list[images.ImageReport]:
    """Machine, images and boxes; nothing of the site itself yet."""
    reports = prepare(site)
    boxes.up(site, BUNDLE.parent)
    return reports


def playbook(site: Site, *extra: str) -> None:
    """Run the real site.yml, as for a real site; only key and secrets are the rehearsal's."""
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", "--limit", site.name, *extra]
    for name in ("vault.yml", "connection.yml"):
        command += ["--extra-vars", f"@{site.state / name}"]
    if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
        raise Problem(
            f"site.yml failed on {site.name}; the lines above say where. The boxes still stand: put it right "
            f"and run `make rehearse SITE={site.name}` again, or `make rehearse-down SITE={site.name}`."
        )


def wait_for_readings(site: Site) -> None:
    """Wait until every sensor of the site has been read."""
    with_token = readings.token(site)
    wanted = {sensor["id"] for sensor in site.sensors}
    deadline = time.monotonic() + READINGS_WITHIN_S
    missing = wanted
    while missing:
        if time.monotonic() > deadline:
            raise Problem(f"No reading of {', '.join(sorted(missing))} after {READINGS_WITHIN_S} s.")
        rows = readings.query(site, readings.NEWEST, with_token)
        missing = wanted - {row["z_device_id"] for row in rows}
        time.sleep(0.5)


def rehearse(site: Site) -> None:
    """The whole of it, with a summary at the end."""
    start = time.monotonic()
    say(f"Rehearsing {site.name} on this machine")
    reports = bring_up(site)
    with step(f"ansible-playbook site.yml -l {site.name}"):
        playbook(site)
    with step("first reading of every sensor"):
        wait_for_readings(site)
    summary(site, reports)
    say(f"{site.name} stands, after {(time.monotonic() - start) / 60:.1f} minutes.")


def summary(site: Site, reports: list[images.ImageReport]) -> None:
    """What stands where, what is a stand-in, and the newest readings."""
    say(f"\nMachines of {site.name}")
    roles = {"ops": "site host", "esp32": "simulated ESP32", "theengs": "simulated Theengs NUC"}
    for host in site.hosts:
        what = roles.get(host.kind, "not rehearsed: site.yml does nothing with it yet")
        say(f"  {host.name:24} {host.address:15} {what}")
    say(f"  {site.name + '-fleet':24} {site.fleet_address:15} simulated sensors and Govee cloud")
    folder = site.state.relative_to(REPOSITORY)
    say(f"\nInto the site host: {folder}/ssh")
    say(f"Secrets of this rehearsal: .venv/bin/ansible-vault view {folder}/vault.yml")
    stand_ins = {tag: images.label(tag, "dpx.standin") for tag in images.versions().values()}
    if any(stand_ins.values()):
        say("\nStand-ins, simulated by this project")
        for tag, why in stand_ins.items():
            if why:
                say(f"  {tag}: {why}")
    rebuilt = [r.name for r in reports if r.how == "built" and r.name in images.versions().values()]
    if rebuilt:
        say(f"\nBuilt here from source or Debian, as no image registry answers: {', '.join(rebuilt)}")
    say("\nNewest readings (again: make readings; live: make readings WATCH=1)")
    readings.show(site, watch=False)


def take_down(site: Site) -> None:
    """Remove the boxes, and the engine too if a rehearsal started it and nobody else uses it."""
    if not machine.engine():
        say(f"{site.name} is not up: no Docker engine runs.")
        return
    boxes.down(site)
    say(f"{site.name} is down.")
    if not boxes.docker("ps", "--quiet") and machine.stop_engine():
        say("The Docker engine that a rehearsal had started is stopped.")


def status(site: Site) -> None:
    """Which boxes of the site stand."""
    names = boxes.containers(site)
    if not names:
        say(f"{site.name} is not up.")
        sys.exit(1)
    say(
        boxes.docker(
            "ps",
            "--all",
            "--filter",
            f"label={boxes.LABEL}={site.name}",
            "--format",
            "table {{.Names}}\t{{.Status}}",
        ).rstrip()
    )
