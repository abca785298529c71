"""`python -m lab`: rehearse a site on this machine."""

import argparse
import sys
from pathlib import Path

from lab import images, machine, readings, rehearse
from lab.console import Problem
from lab.site import load


def main() -> None:
    """Parse the command and do it; a Problem becomes one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument(
        "command", choices=["rehearse", "prepare", "up", "down", "status", "readings", "test-programs"]
    )
    parser.add_argument("site")
    parser.add_argument("--to", type=Path, help="test-programs: folder for influxd")
    parser.add_argument("--watch", action="store_true", help="readings: keep the table live")
    arguments = parser.parse_args()
    try:
        site = load(arguments.site)
        match arguments.command:
            case "rehearse":
                rehearse.rehearse(site)
            case "prepare":
                rehearse.prepare(site)
            case "up":
                rehearse.bring_up(site)
            case "down":
                rehearse.take_down(site)
            case "status":
                rehearse.status(site)
            case "test-programs":
                machine.install({"mosquitto": ["mosquitto"]})
                images.program_of("influxdb", "influxd", arguments.to)
            case "readings":
                readings.show(site, watch=arguments.watch)
    except Problem as problem:
        sys.exit(f"\n{problem}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; run the same command again to go on.")


if __name__ == "__main__":
    main()
