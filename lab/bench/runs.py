# ruff: noqa: INP001  a script, no package
"""
How long does it take to find that nothing is to be done? site.yml again, and in check mode, best of three.

    PYTHONPATH=lab/src .venv/bin/python lab/bench/runs.py coachella            a few minutes

Needs a rehearsed site that site.yml has finished.
"""

import os
import subprocess
import time

from lab.console import Problem, say
from lab.site import REPOSITORY, Site, from_arguments

ROUNDS = 3


def run(site: Site, *extra: str) -> tuple[float, int, int]:
    """Seconds, tasks and changes of one run; a Problem if it fails."""
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", "--limit", site.name, *extra]
    for name in ("vault.yml", "connection.yml"):
        command += ["--extra-vars", f"@{site.state / name}"]
    env = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    start = time.monotonic()
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise Problem(f"site.yml failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    changed = int(recap.partition("changed=")[2].split(maxsplit=1)[0])
    return seconds, done.stdout.count("\nTASK ["), changed


def measure(site: Site) -> None:
    """Print one line a kind of run."""
    for title, extra in (("run again", []), ("--check", ["--check"])):
        runs = [run(site, *extra) for _ in range(ROUNDS)]
        seconds = sorted(taken for taken, _, _ in runs)
        _, tasks, changed = runs[-1]
        say(
            f"{title:10} best {seconds[0]:5.1f} s   worst {seconds[-1]:5.1f} s   n={ROUNDS}   "
            f"{tasks} tasks, {changed} changed"
        )
        if changed:
            raise Problem("The site was not finished: something was left to do.")


def main() -> None:
    """Read the command line and run."""
    measure(from_arguments(__doc__))


if __name__ == "__main__":
    main()
